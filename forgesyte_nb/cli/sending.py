"""`forgesyte-nb send`: files to a plugin of a running server, one line of JSON for each frame, in the order given.

Images named one after the other are one stream, so that a plugin with a state sees `frame1.png frame2.png` as one
sequence; each folder, glob and video is a stream of its own. A file that cannot be read is a failed frame in its
place; what every frame would be refused for, the plugin's name or its options, ends the command at the first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from typing import Any

from forgesyte_nb.cli.wording import in_a_shell
from forgesyte_nb.client.batch import check_for_all
from forgesyte_nb.client.blocking import BlockingClient
from forgesyte_nb.client.results import Result
from forgesyte_nb.client.sources import Source, open_source
from forgesyte_nb.client.sources.sequence import PictureSource
from forgesyte_nb.errors import InvalidOptions, PluginNotFound, SourceError
from forgesyte_nb.image.pictures import RawImage


def send_files(arguments: argparse.Namespace, token: str | None) -> int:
    """Send; print.

    Returns:
        0 if every frame has a result, else 1.

    Raises:
        ConnectionLost: If the server cannot be reached, or was lost for good.
        ValueError: If the URL is none.
    """
    sources = open_sources(arguments.files)
    options = dict(arguments.option)
    sent, failures, damaged, ended = 0, [], [], ""
    with BlockingClient(arguments.url, token=token) as client, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a damaged file is told of below, in our own words
        try:
            for source in sources:
                with client.stream(source, arguments.plugin, options, ordered=True) as stream:
                    for result in stream:
                        print(json_line(result), flush=True)
                        sent += 1
                        if not result.ok:
                            check_for_all(result)
                            failures.append(f"{result.name}: {result.error_code}: {in_a_shell(str(result.error))}")
                if stream.problem is not None:
                    damaged.append(str(stream.problem))
        except (PluginNotFound, InvalidOptions) as error:
            ended = f"ended, since every frame would be refused: {in_a_shell(str(error))}"
    for problem in [*damaged, *filter(None, [ended])]:
        _say(problem)
    if failures:
        _say(f"{len(failures)} of {sent} frames failed; {failures[0]}")
    return 1 if failures or damaged or ended else 0


def _say(text: str) -> None:
    print(f"forgesyte-nb send: {text}", file=sys.stderr)


def open_sources(files: list[str]) -> list[Source]:
    """The streams to send, each opened once to see whether it can be read."""
    streams: list[Source | list[str | RawImage]] = []
    for found in map(_look_at, files):
        if isinstance(found, Source):
            streams.append(found)
        elif streams and isinstance(streams[-1], list):
            streams[-1].append(found)
        else:
            streams.append([found])
    return [open_source(stream) for stream in streams]


def _look_at(name: str) -> str | RawImage | Source:
    """The path of an image as it is, what holds more as an open source, and what cannot be read as saying so."""
    with warnings.catch_warnings(record=True) as left_out:
        warnings.simplefilter("always")
        try:
            source = open_source(name)
        except SourceError as error:
            return RawImage(b"", name, unreadable=str(error))
    for warning in left_out:
        _say(str(warning.message))
    return name if os.path.isfile(name) and isinstance(source, PictureSource) else source


def json_line(result: Result) -> str:
    """What became of one frame."""
    line: dict[str, Any] = {"name": result.name, "frame_id": result.frame_id, "seq": result.seq, "ok": result.ok}
    if result.time_s is not None:
        line["time_s"] = round(result.time_s, 6)
    if result.ok:
        line["result"] = result.result
    else:
        line["error_code"], line["message"] = result.error_code, str(result.error)
    line["processing_time_ms"] = result.processing_time_ms
    line["latency_ms"] = None if result.latency_ms is None else round(result.latency_ms, 3)
    return json.dumps(line, ensure_ascii=False)
