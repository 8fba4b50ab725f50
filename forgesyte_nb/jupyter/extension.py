"""The Jupyter Server extension: enabled by installing the package, it adds the relay's routes and nothing else.

Follows the conventions of jupyter_server: `_jupyter_server_extension_points` names the module,
`_load_jupyter_server_extension` is called once with the application
(https://jupyter-server.readthedocs.io/en/latest/developers/extensions.html).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forgesyte_nb.jupyter.kernel_file import KERNEL_ID

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Where the extension is."""
    return [{"module": "forgesyte_nb.jupyter.extension"}]


def _load_jupyter_server_extension(server_app: ServerApp) -> None:
    """Add the routes."""
    from forgesyte_nb.jupyter.relay import Relay, ServerList

    base_url = server_app.web_app.settings["base_url"]
    routes = [
        (rf"{base_url}forgesyte_nb/servers", ServerList),
        (rf"{base_url}forgesyte_nb/({KERNEL_ID})(?:/.*)?", Relay),
    ]
    server_app.web_app.add_handlers(".*$", routes)  # type: ignore[no-untyped-call]  # jupyter_server's, untyped
