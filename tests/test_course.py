import matplotlib.pyplot as plt
import pytest

from rmu_lab.course import accuracy_bars, check, claim, style
from rmu_lab.course.claims import ClaimFailed
from rmu_lab.evaluate import Accuracy


def test_claim(capsys):
    claim("two is less than three", 2 < 3)
    assert capsys.readouterr().out == "holds: two is less than three\n"
    with pytest.raises(ClaimFailed, match="does not hold here: three is less than two"):
        claim("three is less than two", 3 < 2)


@pytest.mark.parametrize(
    ("answer", "printed"),
    [
        (None, "not attempted"),
        (..., "not attempted"),
        (-3, "not yet: it should be positive"),
        ("x", "not yet: it should be positive (TypeError: '>' not supported between instances of 'str' and 'int')"),
        (11, "not yet: it should be below ten"),
        (4, "correct"),
    ],
)
def test_check_never_raises(answer, printed, capsys):
    check(answer, (lambda x: x > 0, "it should be positive"), (lambda x: x < 10, "it should be below ten"))
    assert capsys.readouterr().out == printed + "\n"


def test_accuracy_bars_draw_what_they_are_given():
    style()
    high, low = (Accuracy(p, (p - 0.1, p + 0.05), (), (), "cloze") for p in (0.9, 0.4))
    axes = accuracy_bars({"bio": (high, low), "general": (high, high)}, title="Bio falls")
    assert sorted(bar.get_height() for bar in axes.patches) == [0.4, 0.9, 0.9, 0.9]
    assert axes.get_title() == "Bio falls"
    assert {"90%", "40%", "guessing"} <= {text.get_text() for text in axes.texts}
    plt.close("all")
