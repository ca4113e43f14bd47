"""Tables of texts and questions: from a file's objects to a data set, and from what a caller gives to rows."""

from __future__ import annotations

import reprlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .errors import RmuLabError
from .stored import sentence_of

if TYPE_CHECKING:
    from datasets import Dataset


def checked_name(name: object, kind: str) -> str | Path:
    """Return a name or path as it is.

    Raises
    ------
    RmuLabError
        if it is something else, or empty.
    """
    if not isinstance(name, (str, Path)):
        raise RmuLabError(f"A {type(name).__name__} is no name of a {kind}; give a short name, a path or an id of the hub.")
    if name == "":
        raise RmuLabError(f"The name of the {kind} is empty; give a short name, a path or an id of the hub.")
    return name


def rows_to_data_set(path: Path, numbers: Sequence[int], rows: Sequence[Mapping[str, Any]]) -> Dataset:
    """Make a data set of a file's objects; a field that some of them lack is None there.

    Parameters
    ----------
    path, numbers
        the file, and the line of each object, for errors.

    Raises
    ------
    RmuLabError
        if a field is of one type here and of another there, naming file, line and field.
    """
    import pyarrow as pa
    from datasets import Dataset  # takes a second to import

    columns = {}
    for field in dict.fromkeys(field for row in rows for field in row):
        values = [row.get(field) for row in rows]
        try:
            columns[field] = pa.array(values)
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            first = bisect_left(range(len(values)), True, key=lambda last: not _fits(values[: last + 1]))
            raise RmuLabError(
                f"{path}, line {numbers[first]}: `{field}` does not go with those before it ({sentence_of(error)}); "
                "give every object the same type there, or leave the field out."
            ) from None
    return Dataset(pa.table(columns))


def _fits(values: Sequence[Any]) -> bool:
    import pyarrow as pa

    try:
        pa.array(values)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return False
    return True


def rows_of(given: object, name: str, loader: str, column: str | None = None) -> list[Any]:
    """Return the rows of a data set or list, or one column of a data set.

    Parameters
    ----------
    name
        what it is called, for errors.
    loader
        what gives the right thing, for errors.

    Raises
    ------
    RmuLabError
        if it is a name, a path, a DataFrame, a data set with several splits, a set, or nothing that can be gone through.
    """
    if isinstance(given, (str, bytes, Path)):
        raise RmuLabError(f"{name} is {str(given)[:60]!r}; give the rows that it names: {loader}.")
    if type(given).__name__ == "DataFrame":  # going through one gives the names of its columns
        rows = f'{name}["{column}"].to_list()' if column else f'{name}.to_dict("records")'
        raise RmuLabError(f"{name} is a DataFrame; give its rows as a list, e.g. {rows}.")
    refuse_splits(given, name)
    if isinstance(given, Mapping):
        raise RmuLabError(f"{name} is a mapping with the keys {', '.join(map(str, given))}; give the rows of one of them.")
    if isinstance(given, Set):
        raise RmuLabError(f"{name} is a set, whose order is another in each run; give a list, e.g. sorted(...) of it.")
    if not isinstance(given, Iterable):
        raise RmuLabError(f"{name} is {reprlib.repr(given)}; give rows, e.g. {loader}.")
    if column is None or not hasattr(given, "column_names"):
        return list(given)
    if column not in (given.column_names or ()):
        raise RmuLabError(f"{name} has no column {column!r}; rename the column of its texts.")
    return list(cast(Any, given)[column])


def refuse_splits(given: object, name: str) -> None:
    """Raise `RmuLabError` if it is a `datasets.DatasetDict`, whose keys are splits, not topics or names."""
    if isinstance(given, Mapping) and type(given).__name__.endswith("DatasetDict"):  # or an IterableDatasetDict
        raise RmuLabError(
            f"{name} is a data set with the splits {', '.join(map(str, given)) or 'none'}; give one of them, "
            f"such as {name}[{str(next(iter(given), 'train'))!r}]."
        )
