"""Messages that are wrong in every way: each is answered once, with a code that is defined; the server goes on.

Over real sockets against a server in a process of its own, with worker processes that decode what passes the door; and
into the parser and the header's reader alone, which raise nothing but the errors of the wire.
"""

from __future__ import annotations

import itertools
import json
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forgesyte_nb.errors import InvalidImage, InvalidMessage
from forgesyte_nb.image.formats import FORMATS
from forgesyte_nb.image.header import read_header
from forgesyte_nb.protocol import wire
from forgesyte_nb.protocol.messages import Error
from tests.chaos.apart import Apart
from tests.figures import Figures
from tests.fuzz.bad_frames import streams
from tests.fuzz.bad_pictures import looking, looks, pictures, seed_pictures
from tests.fuzz.exchange import Answers, Exchange
from tests.fuzz.malformed import PLUGINS, binaries, texts
from tests.server.conftest import RawSocket

MAX_MESSAGE_BYTES = 256 * 1024
MAX_PIXELS = 1_000_000
AT_THE_DOOR = {"INVALID_MESSAGE", "INVALID_IMAGE", "PLUGIN_NOT_FOUND", "INVALID_OPTIONS"}
UNANSWERED = {"ack", "unwatch", "control"}
"""Types to which silence is an answer."""

CONFIRMATIONS = {"subscribed", "unsubscribed", "resumed", "feed_ended", "controlled"}
NOT_UTF8, TOO_BIG = 1007, 1009
CLOSE_CODES = {0, 1000, 1002, NOT_UTF8, TOO_BIG}
"""0: none was said; 1000 and 1002 to a client that said goodbye itself."""

CODES_OF_CLIENTS = range(3000, 5000)
"""Private codes (RFC 6455 section 7.4.2), which no server here has: a client that says goodbye so is answered so."""

BATCH = 10
LONGEST_WORDS = 2000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("malformed")
    with Apart(PLUGINS, folder, max_message_bytes=MAX_MESSAGE_BYTES, max_image_pixels=MAX_PIXELS) as apart:
        yield apart


def times(number: int, figures: Figures) -> settings:
    """So many examples: the same each time in the short form, new ones in the long form."""
    return settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=not figures.soak,
        suppress_health_check=list(HealthCheck),
    )


def answers_good_frames(server: Apart) -> bool:
    """Whether a picture of each kind has its result still."""
    with Exchange(server.port) as exchange:
        messages = [looking("rgb", picture) for picture in seed_pictures()]
        answers = exchange.say(messages, binary=True)
    types = [one["type"] for answer in answers for job in answer.jobs.values() for one in job]
    return types == ["frame_result"] * len(messages) and server.process.poll() is None


def check(message: bytes, answer: Answers) -> str:
    """One answer, and one that is defined; which."""
    said = len(answer.errors) + len(answer.jobs) + len(answer.others)
    assert said == 1 or (said == 0 and UNANSWERED & types_of(message)), (message, answer)
    for error in answer.errors:
        assert error["error_code"] in AT_THE_DOOR, (message, error)
        assert 0 < len(error["message"]) < LONGEST_WORDS, (message, error)
    for job in answer.jobs.values():
        assert [one["type"] == "frame_result" or one["error_code"] == "INVALID_IMAGE" for one in job] == [True], job
    for other in answer.others:
        assert other["type"] in CONFIRMATIONS, (message, other)
    if answer.errors:
        return str(answer.errors[0]["error_code"])
    terminal = [job[0] for job in answer.jobs.values()]
    return "damaged" if terminal and terminal[0]["type"] == "error" else "taken"


def types_of(message: bytes) -> set[Any]:
    """All that a text says its type is; it may say so more than once."""
    found: set[Any] = set()

    def note(pairs: list[tuple[str, Any]]) -> None:
        found.update(value for key, value in pairs if key == "type" and isinstance(value, str))

    try:
        json.loads(message, object_pairs_hook=note)
    except (ValueError, RecursionError):
        return set()
    return found


def fuzz_over_a_socket(
    server: Apart, figures: Figures, messages: st.SearchStrategy[bytes], *, what: str, number: int, binary: bool
) -> Counter[str]:
    """Send them in batches; how many were answered how."""
    counts = Counter[str]()

    @times(number // BATCH, figures)
    @given(st.lists(messages, min_size=BATCH, max_size=BATCH))
    def run(batch: list[bytes]) -> None:
        while batch:
            proper = list(itertools.takewhile(lambda message: not end_of(message, binary=binary), batch))
            with Exchange(server.port) as exchange:
                for message, answer in zip(proper, exchange.say(proper, binary=binary), strict=True):
                    counts[check(message, answer)] += 1
                if len(proper) < len(batch):
                    last = batch[len(proper)]
                    assert exchange.last_word(last, text=not binary) == end_of(last, binary=binary)
                    counts["closed"] += 1
            batch = batch[len(proper) + 1 :]

    run()
    assert answers_good_frames(server)
    log = server.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]
    figures.add("malformed messages", f"{what} sent", sum(counts.values()))
    figures.add("malformed messages", f"{what}: answers that are not defined, or not one", 0, 0)
    figures.add("malformed messages", f"{what}: server deaths", int(server.process.poll() is not None), 0)
    return counts


def end_of(message: bytes, *, binary: bool) -> int:
    """The code with which a message ends its connection; 0 if it does not."""
    if len(message) > MAX_MESSAGE_BYTES:
        return TOO_BIG
    try:
        if not binary:
            message.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    return 0


@pytest.mark.timeout(7200)
def test_texts(server: Apart, figures: Figures) -> None:
    number = 50_000 if figures.soak else 1000
    counts = fuzz_over_a_socket(server, figures, texts(), what="texts", number=number, binary=False)
    assert set(counts) >= {*AT_THE_DOOR, "taken", "closed"}, "it is no longer as varied as it should be"


@pytest.mark.timeout(7200)
def test_binary_messages(server: Apart, figures: Figures) -> None:
    number = 25_000 if figures.soak else 1000
    counts = fuzz_over_a_socket(server, figures, binaries(), what="binary messages", number=number, binary=True)
    assert set(counts) - {"closed"} == {*AT_THE_DOOR, "taken"}


@pytest.mark.timeout(7200)
def test_pictures_up_to_the_workers_that_decode_them(server: Apart, figures: Figures) -> None:
    number = 25_000 if figures.soak else 500
    counts = fuzz_over_a_socket(server, figures, looks(), what="pictures", number=number, binary=True)
    assert set(counts) - {"closed"} == {"INVALID_IMAGE", "damaged", "taken"}


@pytest.mark.timeout(7200)
def test_below_the_messages(server: Apart, figures: Figures) -> None:
    """The end of a connection that breaks the protocol is a Close frame with a code that is defined."""
    counts = Counter[int]()

    @times(5000 if figures.soak else 200, figures)
    @given(streams(too_long=MAX_MESSAGE_BYTES + 1))
    def run(stream: bytes) -> None:
        with RawSocket(server.port) as raw:
            raw.open()
            raw.socket.sendall(stream)
            raw.socket.shutdown(socket.SHUT_WR)
            counts[close_code(raw)] += 1

    run()
    assert set(counts) <= {*CLOSE_CODES, *CODES_OF_CLIENTS}
    assert {1002, 1007, 1009} <= set(counts)
    assert answers_good_frames(server)
    figures.add("malformed messages", "streams of WebSocket frames sent", sum(counts.values()))
    figures.add("malformed messages", "streams: ends with a code that is not defined", 0, 0)


def close_code(raw: RawSocket) -> int:
    """With which code the server ends a connection; 0 if it was not told, since the client itself said no more."""
    try:
        return raw.close_code()
    except (AssertionError, ConnectionResetError):
        return 0


@pytest.mark.timeout(7200)
def test_the_parser_alone(figures: Figures) -> None:
    @times(20_000 if figures.soak else 300, figures)
    @given(texts() | binaries())
    def run(data: bytes) -> None:
        for decode in (wire.decode_client, wire.decode_client_binary):
            words = "decoded"
            try:
                decode(data)
            except (InvalidMessage, InvalidImage) as refused:
                words = str(refused)
            assert 0 < len(words) < LONGEST_WORDS
        header = wire.header_of(data)
        for name in (wire.frame_id_of(data), wire.plugin_of(data), wire.frame_id_of(header), wire.plugin_of(header)):
            wire.encode(Error(name, name, "INVALID_MESSAGE", "", ""))  # they can be said in an answer

    run()


@pytest.mark.timeout(7200)
def test_the_reader_of_headers_alone(figures: Figures) -> None:
    @times(20_000 if figures.soak else 300, figures)
    @given(pictures())
    def run(data: bytes) -> None:
        words = "read"
        try:
            header = read_header(data, max_pixels=MAX_PIXELS)
            assert header.format in FORMATS
            assert 0 < header.width * header.height <= MAX_PIXELS
        except InvalidImage as refused:
            words = str(refused)
        assert 0 < len(words) < LONGEST_WORDS

    run()
