"""Tables of results: one row for each picture, failed ones included.

What is wrong with one picture is a row, never an exception. What every picture would be refused for, the plugin's name
or its options, ends a batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from forgesyte_nb.client.results import Result
from forgesyte_nb.errors import InvalidOptions, PluginNotFound

if TYPE_CHECKING:
    import pandas as pd

    from forgesyte_nb.client.stream import ResultStream

_FIRST = ("name", "seq", "time_s", "ok", "error_code", "message")
_LAST = ("processing_time_ms", "latency_ms", "result")


async def gather(stream: ResultStream) -> pd.DataFrame:
    """The table of a stream's results, for those who await it: whatever ends the stream early is raised."""
    rows: list[dict[str, Any]] = []
    async with contextlib.aclosing(aiter(stream)) as results:
        async for result in results:
            check_for_all(result)
            rows.append(row_of(result))
    return table_of(rows)


def check_for_all(result: Result) -> None:
    """Raise what was wrong with a picture if every other of its batch would be refused for the same.

    Raises:
        PluginNotFound: There is no such plugin.
        InvalidOptions: The plugin refuses the options.
    """
    if result.job_id:
        return  # it was not refused: the plugin itself may raise these errors for one picture
    if isinstance(result.error, PluginNotFound):
        raise result.error
    if isinstance(result.error, InvalidOptions):
        raise InvalidOptions(f"{result.plugin}: {result.error}") from result.error


def to_frame(results: Iterable[Result]) -> pd.DataFrame:
    """A table of results, one row for each.

    Returns:
        Columns `name` (file, or source and number), `seq`, `time_s` (position in the clip), `ok`, `error_code`,
        `message` (of the error); then one for each single value in the results, by its dotted path,
        such as `result.confidence`; then `processing_time_ms`, `latency_ms` and the whole `result`.
    """
    return table_of([row_of(result) for result in results])


def table_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The table of rows, with the columns of `to_frame`."""
    import pandas as pd

    found = dict.fromkeys(column for row in rows for column in row if column not in _FIRST + _LAST)
    return pd.DataFrame(rows, columns=pd.Index([*_FIRST, *found, *_LAST]))


def row_of(result: Result) -> dict[str, Any]:
    """The row of a result, by column."""
    return {
        "name": result.name or result.frame_id,
        "seq": result.seq,
        "time_s": result.time_s,
        "ok": result.ok,
        "error_code": result.error_code,
        "message": None if result.error is None else str(result.error),
        "processing_time_ms": result.processing_time_ms,
        "latency_ms": result.latency_ms,
        "result": result.result,
        **dict(_scalars(result.result, "result")),
    }


def _scalars(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Single values and their dotted paths; lists stay in the `result` column."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _scalars(inner, f"{path}.{key}")
    elif not isinstance(value, list):
        yield path, value
