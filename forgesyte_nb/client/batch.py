"""Many pictures, one table: `batch` for a call that does it all, `to_frame` for results one has.

One row for each picture, failed ones included: what is wrong with one picture is a row, never an exception. What every
picture would be refused for, the plugin's name or its options, ends the batch. The progress bar is written from the
calling thread alone.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from forgesyte_nb.client.results import Result
from forgesyte_nb.errors import ConnectionLost, InvalidOptions, PluginNotFound
from forgesyte_nb.keywords import own_keywords

if TYPE_CHECKING:
    import pandas as pd

    from forgesyte_nb.client.blocking_stream import BlockingStream
    from forgesyte_nb.client.stream import ResultStream

_FIRST = ("name", "seq", "time_s", "ok", "error_code", "message")
_LAST = ("processing_time_ms", "latency_ms", "result")


def batch(
    source: Any,
    plugin: str,
    options: dict[str, Any] | None = None,
    *,
    url: Any = None,
    token: str | os.PathLike[str] | None = None,
    window: int = 16,
    every: int = 1,
    progress: bool = True,
    **more_options: Any,
) -> pd.DataFrame:
    """Send many pictures through a plugin and return a table.

    Args:
        source: Whatever `open_source` takes: a folder, a glob, a list of paths or arrays, a video.
        plugin: Name of the plugin.
        options: The plugin's options; they can be given as keywords as well.
        url: Base URL of the server, or a `Server`; see `Client`.
        token: The server's secret, or the path of a file with it, if it has one.
        window: Pictures under way at a time.
        every: Take every n-th picture.
        progress: Whether to show a progress bar.
        **more_options: Options.

    Returns:
        One row for each picture in the source's order, with the columns of `to_frame`.

    Raises:
        ConnectionLost: If no server answers. One that is lost for good in the middle is a warning: the table then
            ends with the pictures that were under way, as errors.
        PluginNotFound: If there is no such plugin. Of one that goes in the middle there is a warning: the table then
            ends with the pictures before.
        InvalidOptions: If the plugin refuses the options; in the middle, as above.
        SourceError: If the source cannot be opened, or has no pictures.
    """
    from forgesyte_nb.client.blocking import BlockingClient

    with own_keywords(batch, more_options), BlockingClient(url, token=token, window=window) as client:
        return client.batch(source, plugin, options, every=every, progress=progress, **more_options)


def collect(stream: BlockingStream, *, progress: bool) -> pd.DataFrame:
    """The table of a stream's results, with a progress bar while they come."""
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        monitor_interval = 0  # tqdm's own thread would write to whatever cell runs by then

    rows: list[dict[str, Any]] = []
    total = len(stream.source) if _has_length(stream) else None
    with stream, Bar(total=total, desc=stream.source.name, unit="image", disable=not progress) as bar:
        try:
            for result in stream:
                check_for_all(result)
                rows.append(_row(result))
                bar.update()
                if not result.ok:
                    bar.set_postfix(failed=stream.failed, refresh=False)
        except ConnectionLost as error:
            if not rows:
                raise
            warnings.warn(f"{error}; the table ends after {len(rows)} pictures", stacklevel=4)
        except (PluginNotFound, InvalidOptions) as error:
            if not any(row["ok"] for row in rows):
                raise
            warnings.warn(f"{error}; the table ends after {len(rows)} pictures", stacklevel=4)
    return _table(rows)


async def gather(stream: ResultStream) -> pd.DataFrame:
    """The table of a stream's results, for those who await it: whatever ends the stream early is raised."""
    rows: list[dict[str, Any]] = []
    async with contextlib.aclosing(aiter(stream)) as results:
        async for result in results:
            check_for_all(result)
            rows.append(_row(result))
    return _table(rows)


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
    return _table([_row(result) for result in results])


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    found = dict.fromkeys(column for row in rows for column in row if column not in _FIRST + _LAST)
    return pd.DataFrame(rows, columns=pd.Index([*_FIRST, *found, *_LAST]))


def _row(result: Result) -> dict[str, Any]:
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


def _has_length(stream: BlockingStream) -> bool:
    try:
        return len(stream.source) >= 0
    except TypeError:
        return False
