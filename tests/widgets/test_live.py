"""`LiveWidget` without a kernel: sessions by comm messages, what pages are told, and that nothing is left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import forgesyte_nb as fs
from forgesyte_nb.feeds import Feed, feed_book
from forgesyte_nb.widgets import comm_views
from forgesyte_nb.widgets.comm_views import CommViews
from forgesyte_nb.widgets.live import LiveWidget
from forgesyte_nb.widgets.static import StaticPicture
from tests.conftest import wait_for
from tests.widgets.conftest import Page


@pytest.fixture
def widget(server: fs.Server, feed: Feed) -> Iterator[LiveWidget]:
    made = LiveWidget(feed, server=server, _front="feed_view")
    yield made
    made.close()


@pytest.fixture
def page(widget: LiveWidget) -> Page:
    return Page(widget)


def test_a_page_is_told_where_its_kernel_is(widget: LiveWidget, server: fs.Server, feed: Feed) -> None:
    state = widget.get_state()
    assert state["_where"] == {
        "feeds_id": feed_book().book_id,
        "direct": server.url,
        "kernel_id": None,
        "version": fs.__version__,
    }
    assert (state["_feed"], state["_front"]) == (feed.feed_id, "feed_view")
    assert "export default" in state["_esm"]


def test_a_secret_never_goes_to_a_page(serve_on: Callable[..., fs.Server], feed: Feed) -> None:
    server = serve_on(token="open-sesame")  # noqa: S106 -- of this test alone
    widget = LiveWidget(feed, server=server)
    assert widget.get_state()["_where"]["direct"] is None
    assert "open-sesame" not in str(widget.get_state())
    page = Page(widget)
    page.post("open")
    assert page.heard("hello")
    widget.close()


def test_a_view_watches_and_steers_by_comm_messages(page: Page, feed: Feed) -> None:
    page.post("open")
    assert page.heard("hello")["feeds_id"] == feed_book().book_id
    feed.tell({"playing": True})
    page.say("watch", feed=feed.feed_id, pace_ms=1)
    wait_for(lambda: feed.watchers == 1, "the viewer")
    feed.show(b"picture", frame_id="f1")
    assert page.heard("feed_state")["state"] == {"playing": True}
    header, payload = wait_for(lambda: page.pictures, "the picture")[0]
    assert (header["frame_id"], payload) == ("f1", b"picture")
    page.say("control", feed=feed.feed_id, action="speed", value=2, request_id="r")
    assert page.heard("controlled")["value"] == {"speed": 2}


def test_pictures_of_a_page_arrive_as_bytes(serve_on: Callable[..., fs.Server], feed: Feed, tiny: bytes) -> None:
    from forgesyte_nb.plugins.registry import Registry
    from forgesyte_nb.protocol.wire import encode_binary
    from tests.conftest import run_cell

    registry = Registry()
    run_cell("@fs.plugin('size', engine='inline')\ndef size(frame):\n    return {'wh': list(frame.size_wh)}", registry)
    widget = LiveWidget(feed, server=serve_on(registry))
    page = Page(widget)
    page.post("open")
    message = encode_binary({"type": "send_frame", "frame_id": "f", "plugin": "size"}, tiny)
    page.post("say", buffers=[memoryview(message)])
    assert page.heard("frame_result")["result"] == {"wh": [8, 8]}
    widget.close()


def test_two_views_have_a_session_each(widget: LiveWidget, feed: Feed) -> None:
    one, two = Page(widget, "one"), Page(widget, "two")
    for page in (one, two):
        page.post("open")
        page.say("watch", feed=feed.feed_id)
    wait_for(lambda: feed.watchers == 2, "both viewers")
    one.say("unwatch", feed=feed.feed_id)
    wait_for(lambda: feed.watchers == 1, "one viewer")
    feed.show(b"picture")
    wait_for(lambda: two.pictures, "the picture")
    assert not one.pictures
    assert one.heard("hello")["session"] != two.heard("hello")["session"]
    two.post("gone")
    wait_for(lambda: feed.watchers == 0, "no viewer")


def test_a_view_that_opens_again_has_one_session(page: Page, feed: Feed, server: fs.Server) -> None:
    for _ in range(3):
        page.post("open")
        page.say("watch", feed=feed.feed_id)
    wait_for(lambda: server.stats()["connections"] == 1, "one session")
    wait_for(lambda: feed.watchers == 1, "one viewer")


def test_a_view_that_the_kernel_does_not_know_is_told(page: Page) -> None:
    page.say("watch", feed="x")
    assert page.closed == ["the kernel does not know this view"]
    page.post("gone")
    assert len(page.closed) == 1


@pytest.mark.parametrize(
    "content",
    [None, [], "text", {}, {"view": 1, "kind": "open"}, {"view": "v1"}, {"view": "v1", "kind": "say", "text": 1}],
)
def test_what_is_none_of_ours_is_left_alone(page: Page, content: Any) -> None:
    page.widget._handle_custom_msg(content, None)
    page.post("open")
    page.post("say")
    page.widget._handle_custom_msg({"view": "v1", "kind": "say", "text": "no JSON"}, [])
    assert page.heard("error")["error_code"] == "INVALID_MESSAGE"


def test_closing_a_widget_ends_its_sessions(widget: LiveWidget, page: Page, feed: Feed, server: fs.Server) -> None:
    page.post("open")
    page.say("watch", feed=feed.feed_id)
    wait_for(lambda: feed.watchers == 1, "the viewer")
    widget.close()
    wait_for(lambda: feed.watchers == 0, "no viewer")
    wait_for(lambda: server.stats()["connections"] == 0, "no session")
    widget.close()
    page.post("open")
    assert server.stats()["connections"] == 0


def test_a_page_hears_when_its_server_closes(page: Page, server: fs.Server) -> None:
    page.post("open")
    assert page.heard("hello")
    server.close()
    wait_for(lambda: page.closed, "the end")
    assert page.closed == ["the server was closed"]


def test_a_server_that_is_replaced_is_found_again(feed: Feed) -> None:
    server = fs.serve(port=0, engine="inline", workers=1)
    widget = LiveWidget(feed)
    page = Page(widget)
    page.post("open")
    page.say("watch", feed=feed.feed_id)
    wait_for(lambda: feed.watchers == 1, "the viewer")
    second = fs.serve(port=0, engine="inline", workers=2)
    try:
        assert not server.running
        assert widget.get_state()["_where"]["direct"] == second.url
        wait_for(lambda: page.closed, "the end of the first session")
        page.post("open")
        page.say("watch", feed=feed.feed_id)
        wait_for(lambda: feed.watchers == 1, "the viewer of the second server")
    finally:
        widget.close()
        second.close()


def test_a_closed_widget_follows_no_server(feed: Feed, server: fs.Server) -> None:
    widget = LiveWidget(feed, server=server)
    before = widget._where
    widget.close()
    server.close()
    with fs.serve(port=0, engine="inline", workers=1):
        assert widget._where == before


class Clock:
    """A clock that is set by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_silent_view_gets_pictures_more_slowly_and_then_none(server: fs.Server, feed: Feed) -> None:
    clock = Clock()
    closed: list[str] = []
    seen: list[int] = []

    def post(content: dict[str, Any], buffers: list[bytes]) -> None:
        seen.append(len(buffers))
        closed.extend([content["closed"]] if "closed" in content else [])

    views = CommViews(post, lambda: server, clock)
    views.receive({"view": "v", "kind": "open"}, [])
    watch = f'{{"type": "watch", "feed": "{feed.feed_id}", "pace_ms": 1}}'
    views.receive({"view": "v", "kind": "say", "text": watch}, [])
    wait_for(lambda: feed.watchers == 1, "the viewer")
    clock.now_s = comm_views.SILENT_S + 1
    feed.show(b"late")
    view = views._views["v"]
    wait_for(lambda: view._slow, "the slower pace")
    views.receive({"view": "v", "kind": "here"}, [])
    assert not view._slow
    clock.now_s += comm_views.DROPPED_S + 1
    feed.show(b"later")
    wait_for(lambda: closed, "the end")
    wait_for(lambda: feed.watchers == 0, "no viewer")
    assert len(views) == 0
    views.close()


def test_the_static_form_goes_beside_the_live_one(server: fs.Server, feed: Feed) -> None:
    class Shown(LiveWidget):
        def _static_text(self) -> str:
            return "a street"

        def _static_picture(self) -> StaticPicture | None:
            return StaticPicture("image/png", b"PNG")

    widget = Shown(feed, server=server)
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["text/plain"] == "a street"
    assert bundle["image/png"] == "UE5H"
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id
    widget.close()


def test_neither_importing_nor_serving_loads_widgets() -> None:
    code = (
        "import sys, forgesyte_nb as fs\n"
        "with fs.serve(port=0, engine='inline', workers=1):\n"
        "    print([m for m in ('ipywidgets', 'anywidget', 'matplotlib', 'IPython') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
