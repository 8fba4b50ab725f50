"""Tables that a plugin returns (DataFrames and Series of pandas) as lists of rows, without importing pandas.

A table becomes a list with one object for each row, its fields named by the columns, in the order of the table. The
index is left out unless it has a name: then it is the first field. Missing values (NaN, NaT, NA) are null, which is
what they mean in a table. A Series becomes the list of its values.
"""

from __future__ import annotations

from typing import Any

from forgesyte_nb.errors import PluginError


def rows_of(thing: Any) -> list[Any] | None:
    """The rows of a table, or the values of a Series; None if it is neither.

    Returns:
        A list of dicts, whose keys are text, or of values; both may hold NumPy values and times.

    Raises:
        PluginError: If two of its columns have the same name.
    """
    kind = type(thing)
    if kind.__module__.partition(".")[0] != "pandas" or not hasattr(kind, "iloc"):
        return None
    return _rows_of_table(thing) if hasattr(kind, "columns") else _missing_as_none(thing)


def _rows_of_table(thing: Any) -> list[Any]:
    named = [name for name in thing.index.names if name is not None]
    table = thing.reset_index() if named and not set(named) & set(thing.columns) else thing
    names = [_column_name(name) for name in table.columns]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise PluginError(f"returned a DataFrame with two columns named {twice!r}; rename one")
    columns = {name: _missing_as_none(table.iloc[:, at]) for at, name in enumerate(names)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _missing_as_none(column: Any) -> list[Any]:
    is_missing = column.isna().tolist()
    return [None if missing else value for value, missing in zip(column.tolist(), is_missing, strict=True)]


def _column_name(name: Any) -> str:
    """The name of a column as text; of a column of several levels the levels, joined by dots."""
    return ".".join(map(str, name)) if isinstance(name, tuple) else str(name)
