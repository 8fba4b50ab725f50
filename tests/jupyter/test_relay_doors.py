"""Who may pass the relay: nobody whom Jupyter does not know, on no route, by no method."""

from __future__ import annotations

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.jupyter.conftest import TOKEN, Jupyter, Kernel

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
ROUTES = ["/forgesyte_nb/servers", "{way}", "{way}/", "{way}/healthz", "{way}/forgesyte.js", "{way}/ws/tester"]
NO_KERNEL = "/forgesyte_nb/12345678-aaaa-bbbb-cccc-123456789012/healthz"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@pytest.fixture(scope="module", autouse=True)
def served(kernel: Kernel) -> None:
    kernel.serve()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("route", [*ROUTES, NO_KERNEL])
def test_strangers_are_refused(jupyter: Jupyter, kernel: Kernel, route: str, method: str) -> None:
    path = route.format(way=kernel.way)
    for headers in ({}, {"Authorization": "token wrong"}, UPGRADE, {"Cookie": "username-127-0-0-1=someone"}):
        status, _, _ = jupyter.request(path, method=method, headers=headers)
        assert status == 403, f"{method} {path} {headers}"


@pytest.mark.parametrize("method", [method for method in METHODS if method not in ("GET", "HEAD")])
@pytest.mark.parametrize("route", ROUTES)
def test_looking_is_all_there_is(jupyter: Jupyter, kernel: Kernel, route: str, method: str) -> None:
    assert jupyter.request(route.format(way=kernel.way), method=method)[0] == 405


def test_authorization_is_asked(jupyter: Jupyter, kernel: Kernel) -> None:
    known = {"Authorization": f"token {TOKEN}"}
    for path in ("/forgesyte_nb/servers", f"{kernel.way}/healthz"):
        assert jupyter.request(path, headers=known)[0] == 200
        status, _, body = jupyter.request(path, headers={**known, "X-May-Not": "read kernels"})
        assert status == 403
        assert "read kernels" in body["error"]
    may_not = {**known, **UPGRADE, "X-May-Not": "execute kernels"}
    assert jupyter.request(f"{kernel.way}/ws/tester", headers=may_not)[0] == 403


async def test_pages_of_other_origins_are_refused(jupyter: Jupyter, kernel: Kernel) -> None:
    cookie = {"Cookie": jupyter.cookie()}
    async with connect(
        kernel.ws,
        additional_headers=cookie,
        origin=f"http://127.0.0.1:{jupyter.port}",  # type: ignore[arg-type]
        subprotocols=["forgesyte.v2"],  # type: ignore[list-item]
        proxy=None,
    ) as client:
        assert '"hello"' in str(await client.recv())
    for origin in ("http://evil.example", f"http://localhost:{jupyter.port}", "http://127.0.0.1", "null"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(kernel.ws, additional_headers=cookie, origin=origin, proxy=None)  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403
        assert jupyter.request(f"{kernel.way}/healthz", headers={**cookie, "Origin": origin})[0] == 403
        assert jupyter.request("/forgesyte_nb/servers", headers={**cookie, "Origin": origin})[0] == 403


def test_other_names_of_this_machine_are_refused(jupyter: Jupyter, kernel: Kernel) -> None:
    headers = {"Authorization": f"token {TOKEN}", "Host": "rebound.example"}
    assert jupyter.request(f"{kernel.way}/healthz", headers=headers)[0] == 403
    assert jupyter.request("/forgesyte_nb/servers", headers=headers)[0] == 403
