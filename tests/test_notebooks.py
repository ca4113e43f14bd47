"""Notebooks are committed as executed from top to bottom, and keep to the limits that make them readable.

What they print is compared by nbval (`make test`), which skips cells that were never executed: so this
file makes sure that there are none.
"""

import ast
import base64
import io
import re
from pathlib import Path
from statistics import median

import nbformat
import PIL.Image
import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.rglob("*.ipynb"))


def cells_of(path: Path, kind: str) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind and cell.source.strip()]


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS][:1] == ["00_start_here.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_executed_in_order_without_errors(path):
    code = cells_of(path, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    nbformat.validate(nbformat.read(path, as_version=4))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_keeps_to_its_limits(path):
    code = cells_of(path, "code")
    lines = [len(cell.source.splitlines()) for cell in code]
    assert len(code) + len(cells_of(path, "markdown")) <= 60
    assert max(lines) <= 30
    assert median(lines) <= 8 or path.parent != FOLDER  # solutions are whole functions, appendices for who reads on
    assert path.stat().st_size <= 600 * 1024


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_paths_of_a_machine(path):
    assert not re.search(r"/(home|root|Users|tmp|work)/", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_cells_that_may_show_a_progress_bar_are_not_compared(path):
    """A bar appears only where a run takes over five seconds, so such a cell's output depends on the machine."""
    for cell in cells_of(path, "code"):
        calls = re.findall(r"\b(?:unlearn|accuracy)\([^\n]*", cell.source)
        if any("progress=False" not in call for call in calls):
            assert "nbval-ignore-output" in cell.metadata.get("tags", []), cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_pictures_have_text_for_who_cannot_see_them(path):
    """JupyterLab and the site show the text of an HTML image, and of no other kind of output."""
    for cell in cells_of(path, "code"):
        for data in (output.get("data", {}) for output in cell.outputs):
            assert not [kind for kind in data if kind.startswith("image/")], cell.source
            for picture in re.findall("<img [^>]*>", data.get("text/html", "")):
                assert len(re.search(r' alt="([^"]*)"', picture)[1]) > 30, cell.source
                width = int(re.search(r' width="(\d+)"', picture)[1])
                drawn = PIL.Image.open(io.BytesIO(base64.b64decode(re.search(r'base64,([^"]+)"', picture)[1])))
                assert drawn.width == pytest.approx(2 * width, abs=1), f"not sharp: {cell.source}"


def is_set(node: ast.AST) -> bool:
    match node:
        case ast.Set() | ast.SetComp() | ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() | ast.BitXor() | ast.Sub(), right=right):
            return is_set(left) or is_set(right)
    return False


ORDER_FREE = {"all", "any", "len", "set", "frozenset", "sum"}
IN_ORDER = {"dict", "enumerate", "iter", "list", "map", "print", "tuple", "zip"}


def in_the_order_of_a_set(source: str) -> list[str]:
    """What in this code takes things in the order of a set that stands there, which for words is another in each process.

    Sets that were given a name before are not followed.
    """
    found, free = [], set()
    for node in ast.walk(ast.parse(source)):  # from the outside in
        match node:
            case ast.Call(func=ast.Name(id=name), args=args) if name in ORDER_FREE:
                free |= {id(each) for each in args}
            case ast.Call(func=ast.Name(id="sorted" | "min" | "max"), args=args, keywords=keywords):
                if all(each.arg != "key" for each in keywords):
                    free |= {id(each) for each in args}
                elif any(map(is_set, args)):  # equal ones stay in the order of the set
                    found.append(node)
            case ast.Call(func=ast.Name(id=name), args=args) if name in IN_ORDER and any(map(is_set, args)):
                found.append(node)
            case ast.Call(func=ast.Attribute(attr="join" | "fromkeys"), args=args) if any(map(is_set, args)):
                found.append(node)
            case ast.For(iter=of) | ast.Starred(value=of) if is_set(of):
                found.append(node)
            case ast.ListComp() | ast.DictComp() | ast.GeneratorExp():
                if id(node) not in free and any(is_set(each.iter) for each in node.generators):
                    found.append(node)
    return [ast.unparse(node) for node in found]


@pytest.mark.parametrize(
    ("source", "flagged"),
    [
        ("sorted({'a', 'b'} - {'a'}, key=len)", True),
        ("for word in set(words): print(word)", True),
        ("[word for word in {word for word in words}]", True),
        ("{word: 1 for text in texts for word in set(text)}", True),
        ("' '.join(word for word in set(words))", True),
        ("', '.join(set(words))", True),
        ("print(*set(words))", True),
        ("max(set(words), key=words.count)", True),
        ("sorted(set(words))", False),
        ("sorted(words, key=len)", False),
        ("sorted(set(words), reverse=True)", False),
        ("all(known(word) for word in set(words))", False),
        ("max(len(word) for word in set(words))", False),
        ("{word for word in set(words)}", False),
    ],
)
def test_the_order_of_a_set_is_noticed(source: str, flagged: bool):
    assert bool(in_the_order_of_a_set(source)) == flagged


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_nothing_follows_the_order_of_a_set(path):
    """Else what is printed would be compared, and differ in one run of several."""
    assert not [line for cell in cells_of(path, "code") for line in in_the_order_of_a_set(cell.source)]
