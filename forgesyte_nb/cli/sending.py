"""`forgesyte-nb send`: files to a plugin of a running server, one line of JSON for each frame, in the order given.

Images named one after the other are one stream, so that a plugin with a state sees `frame1.png frame2.png` as one
sequence; each folder, glob and video is a stream of its own. Every file is looked at before anything is sent.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import warnings
from typing import Any

from forgesyte_nb.cli.wording import in_a_shell
from forgesyte_nb.client.blocking import BlockingClient
from forgesyte_nb.client.results import Result
from forgesyte_nb.client.sources import Source, open_source


def send_files(arguments: argparse.Namespace, token: str | None) -> int:
    """Send; print.

    Returns:
        0 if every frame has a result, else 1.

    Raises:
        SourceError: If a file is not there or is no picture, before anything is sent.
        ConnectionLost: If the server cannot be reached, or was lost for good.
        ValueError: If the URL is none.
    """
    sources = open_sources(arguments.files)
    options = dict(arguments.option)
    sent, failures, damaged = 0, [], []
    with BlockingClient(arguments.url, token=token) as client, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a damaged file is told of below, in our own words
        for source in sources:
            with client.stream(source, arguments.plugin, options, ordered=True) as stream:
                for result in stream:
                    print(json_line(result), flush=True)
                    sent += 1
                    if not result.ok:
                        failures.append(f"{result.name}: {result.error_code}: {in_a_shell(str(result.error))}")
            if stream.problem is not None:
                damaged.append(str(stream.problem))
    for problem in damaged:
        print(f"forgesyte-nb send: {problem}", file=sys.stderr)
    if failures:
        print(f"forgesyte-nb send: {len(failures)} of {sent} frames failed; {failures[0]}", file=sys.stderr)
    return 1 if failures or damaged else 0


def open_sources(files: list[str]) -> list[Source]:
    """The streams to send, each opened once to see whether it can be read.

    Raises:
        SourceError: Naming the file.
    """
    sources: list[Source] = []
    for is_image, names in itertools.groupby(files, key=_is_one_image):
        if is_image:
            sources.append(open_source(list(names)))
        else:
            sources.extend(map(open_source, names))
    return sources


def _is_one_image(name: str) -> bool:
    """Whether it is the path of a file that is sent as it is; a missing file raises."""
    source = open_source(name)
    source.close()
    return os.path.isfile(name) and source.fps is None


def json_line(result: Result) -> str:
    """What became of one frame."""
    line: dict[str, Any] = {"name": result.name, "frame_id": result.frame_id, "seq": result.seq, "ok": result.ok}
    if result.ok:
        line["result"] = result.result
    else:
        line["error_code"], line["message"] = result.error_code, str(result.error)
    line["processing_time_ms"] = result.processing_time_ms
    line["latency_ms"] = None if result.latency_ms is None else round(result.latency_ms, 3)
    return json.dumps(line, ensure_ascii=False)
