"""A notebook's first minute: import, a plugin, `serve()`, one frame from stdin, its result; each step timed.

`python -m tests.benchmarks.fresh < image.jpg` prints the times as JSON.
"""

import time

_began = time.perf_counter()
import forgesyte_nb as fs  # noqa: E402 -- this is what is timed

_imported = time.perf_counter()


@fs.plugin
def bright(frame: fs.Frame) -> dict[str, bool]:
    """A plugin as one types it into a cell."""
    return {"bright": bool(frame.gray.mean() > 127)}


def main() -> None:
    """Serve, ask, answer."""
    import sys

    image = sys.stdin.buffer.read()
    before = time.perf_counter()
    server = fs.serve(port=0)
    served = time.perf_counter()
    # Its imports come after what is timed: they would have made `import forgesyte_nb` faster.
    import select

    from tests.benchmarks.child import say
    from tests.benchmarks.load import verify
    from tests.benchmarks.sockets import Connection, Messages

    messages = Messages("bright", [image])
    connection = Connection(server.port, "fresh_0", messages)
    if not connection.send(1):
        select.select([], [connection.socket], [])
        connection.push()
    while not connection.ended:
        select.select([connection.socket], [], [])
        connection.receive()
    done_at = time.monotonic()
    verify(connection, messages, named=True)
    connection.close()
    server.close()
    say(import_s=_imported - _began, serve_s=served - before, done_at=done_at)


if __name__ == "__main__":
    main()
