"""The relay's doors in the Jupyter Server: the list of servers, and the way to each of them.

Every request passes `prepare` before anything else happens: Jupyter's check of `Host`, its authentication and its
authorization, its check of `Origin`, and only then is a path looked at; no route and no method comes past it. A path
leads to a kernel of this Jupyter Server alone, and there only to the port that the kernel's own file names. What the
browser sent stays here: neither cookies nor tokens nor the query (Jupyter's token may be in it) go on to the kernel,
and the kernel server's secret never comes back.

Why not jupyter-server-proxy: it opens `/proxy/<any port>` to every program of the machine, where this relay knows the
ports of kernels alone; it takes messages apart and puts them together again, so that pings are answered half-way (ours
are receipts), close codes are lost, what a slow reader has not taken piles up, and messages end at 10 MiB. It would add
aiohttp and simpervisor to what is installed.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import responses
from pathlib import Path
from typing import Any

import msgspec
from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from forgesyte_nb.errors import ConnectionLost
from forgesyte_nb.jupyter.kernel_file import KernelFile, NotPublished, Untrusted, path_beside, read
from forgesyte_nb.jupyter.tunnel import Answer, ask, body_of, splice
from forgesyte_nb.server.gate import TOKEN_SUBPROTOCOL

_HANDSHAKE = ("Sec-WebSocket-Key", "Sec-WebSocket-Version")
_PASSED_ON = ("Content-Type", "Content-Security-Policy", "Cache-Control", "X-Content-Type-Options")
_UPGRADED = ("Upgrade", "Connection", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol")
_START = "run server = fs.serve() in its notebook"


class Refusal(HTTPError):
    """What the browser is told instead of an answer."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(status, "%s", message)
        self.message = message


class Door(JupyterHandler):
    """A route that nobody passes whom Jupyter does not know."""

    auth_resource = "kernels"

    async def prepare(self) -> None:  # type: ignore[override]  # Jupyter's own may return what to await; here, nothing
        """Refuse with 403 whoever may not pass, before the route's own method is called."""
        await super().prepare(_redirect_to_login=False)
        user = self.current_user
        if user is None:  # Jupyter may be set to leave this to each route
            raise Refusal(HTTPStatus.FORBIDDEN, "log in to Jupyter, or send its token")
        action = "execute" if self.upgrades else "read"
        if not await ensure_async(self.authorizer.is_authorized(self, user, action, self.auth_resource)):
            raise Refusal(HTTPStatus.FORBIDDEN, f"you may not {action} {self.auth_resource} here")
        if not self.check_origin():
            raise Refusal(HTTPStatus.FORBIDDEN, "pages of another origin may not; see ServerApp.allow_origin")

    @property
    def upgrades(self) -> bool:
        """Whether the request asks to become a WebSocket."""
        return self.request.method == "GET" and self.request.headers.get("Upgrade", "").lower() == "websocket"

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Errors are JSON, as the kernel's server writes them."""
        raised = (kwargs.get("exc_info") or (None, None, None))[1]
        self.answer({"error": raised.message if isinstance(raised, Refusal) else responses.get(status_code, "error")})

    def answer(self, body: Any) -> None:
        """End the request with JSON."""
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(msgspec.json.encode(body))

    def published(self, kernel_id: str) -> KernelFile:
        """What a kernel of this Jupyter Server says of its server.

        Raises:
            NotPublished: If it says nothing.
            Untrusted: If it is not believed.
        """
        kernel = self.kernel_manager.get_kernel(kernel_id)
        kernel_pid = getattr(kernel.provisioner, "pid", None)
        if kernel_pid is None or not kernel.connection_file:
            raise NotPublished("the kernel runs on another machine, or not at all")
        return read(path_beside(Path(kernel.connection_file), kernel_id), kernel_pid)


class ServerList(Door):
    """`GET forgesyte_nb/servers`: the servers of the running kernels, and what was not believed."""

    @ws_authenticated
    async def get(self) -> None:
        """Answer with the list."""
        sessions: list[dict[str, Any]] = await ensure_async(self.session_manager.list_sessions())  # type: ignore[no-untyped-call]
        notebooks = {session["kernel"]["id"]: session for session in sessions if session.get("kernel")}
        servers, refused = [], []
        for kernel_id in self.kernel_manager.list_kernel_ids():
            try:
                servers.append(self._describe(kernel_id, notebooks.get(kernel_id, {})))
            except NotPublished:
                continue
            except Untrusted as error:
                refused.append({"kernel_id": kernel_id, "reason": str(error)})
        self.answer({"servers": servers, "refused": refused})

    def _describe(self, kernel_id: str, notebook: dict[str, Any]) -> dict[str, Any]:
        said = self.published(kernel_id)
        return {
            "kernel_id": kernel_id,
            "server_id": said.server_id,
            "port": said.port,
            "version": said.version,
            "name": notebook.get("name"),
            "path": notebook.get("path"),
            "url": f"{self.base_url}forgesyte_nb/{kernel_id}/",
        }


class Relay(Door):
    """`GET forgesyte_nb/<kernel_id>/…`: as if asked of that kernel's server, WebSockets included."""

    @ws_authenticated
    async def get(self, kernel_id: str) -> None:
        """Relay a look-up, or become a WebSocket."""
        path = self.request.path.partition(f"forgesyte_nb/{kernel_id}")[2]
        if not path:  # the page's own links are relative
            self.redirect(f"{self.base_url}forgesyte_nb/{kernel_id}/")
            return
        said = self._find(kernel_id)
        try:
            answer = await ask(said, path, self._handshake() if self.upgrades else {})
            with closing(answer.stream):
                if answer.status == HTTPStatus.SWITCHING_PROTOCOLS and self.upgrades:
                    await self._tunnel(answer)
                else:
                    await self._pass_on(answer)
        except ConnectionLost as error:
            raise Refusal(
                HTTPStatus.BAD_GATEWAY,
                f"the server of kernel {kernel_id} does not answer on port {said.port}: {error}; {_START} again",
            ) from error

    head = get

    def _find(self, kernel_id: str) -> KernelFile:
        if kernel_id not in self.kernel_manager:
            listed = f"{self.base_url}forgesyte_nb/servers"
            raise Refusal(HTTPStatus.NOT_FOUND, f"no kernel {kernel_id} runs here; {listed} names those with a server")
        try:
            return self.published(kernel_id)
        except NotPublished as error:
            raise Refusal(
                HTTPStatus.NOT_FOUND, f"kernel {kernel_id} has no running server ({error}): {_START}"
            ) from error
        except Untrusted as error:
            raise Refusal(HTTPStatus.BAD_GATEWAY, f"kernel {kernel_id}: {error}; {_START} again") from error

    def _handshake(self) -> dict[str, str]:
        """The browser's part of the handshake; no extension, and no token of the browser's."""
        sent = {"Upgrade": "websocket", "Connection": "Upgrade"}
        sent |= {name: self.request.headers[name] for name in _HANDSHAKE if name in self.request.headers}
        offered = [name.strip() for name in self.request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        names = [name for name in offered if name and not name.startswith(TOKEN_SUBPROTOCOL)]
        return {**sent, "Sec-WebSocket-Protocol": ", ".join(names)} if names else sent

    async def _tunnel(self, answer: Answer) -> None:
        browser = self.detach()
        head = f"HTTP/1.1 {answer.status} {answer.reason}\r\n"
        head += "".join(f"{name}: {answer.headers[name]}\r\n" for name in _UPGRADED if name in answer.headers)
        try:
            await browser.write(head.encode("latin-1") + b"\r\n")
        except StreamClosedError:  # the browser has gone meanwhile
            return
        await splice(browser, answer.stream, self._note_activity)

    def _note_activity(self) -> None:
        """A live view is use: the Jupyter Server is not idle."""
        self.settings["api_last_activity"] = datetime.now(UTC)

    async def _pass_on(self, answer: Answer) -> None:
        if answer.status < HTTPStatus.OK:
            raise ConnectionLost(f"it answers {answer.status} {answer.reason}")
        body = await body_of(answer)
        self.set_status(answer.status, answer.reason)
        for name in _PASSED_ON:
            if name in answer.headers:
                self.set_header(name, answer.headers[name])
        self.finish(body)
