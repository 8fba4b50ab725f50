"""What a plugin is: a function or class, made into a `Plugin` that says all there is to know about it.

`@plugin` leaves what it decorates as it was, directly callable, and registers a `Plugin` for it. A `Plugin` is
immutable: changed code is a new `Plugin`. How it travels to a worker is in `payload.py`, which names are taken
in `registry.py`.

A function takes a `Frame` first; keyword-only parameters are options; a parameter `state` (a dict of its own
for each stream, empty at first) makes it stateful; `ctx` is a `Context`; `options` the whole options model. A
class has `process(self, frame, *, …)` under the same rules, and may have `setup(self, ctx, *, …)`, called once in each
worker with the keyword arguments of `@plugin(setup={…})`, `teardown(self)`, and `new_stream(self)`, whose return value
becomes the `state` of a new stream. It is made without arguments; what of this a class does not keep to is refused at
once (`class_form.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from forgesyte_nb.errors import InvalidOptions, PluginDefinitionError
from forgesyte_nb.keywords import known_keywords
from forgesyte_nb.plugins.class_form import check_class, keyword_only, not_plain
from forgesyte_nb.plugins.options import OptionsSchema
from forgesyte_nb.protocol.topics import PLUGIN_NAME
from forgesyte_nb.settings import ENGINE_NAMES, EngineName

Target = TypeVar("Target", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False, repr=False)
class Plugin:
    """One version of one plugin.

    Attributes:
        name: As in `send_frame` and `plugin_<name>`.
        target: The function, or the class.
        schema: Its options.
        stateful: Whether it keeps a state for each stream.
        version: The author's version; free text.
        timeout_s: Time limit of one frame; None for the server's.
        engine: Where it must run; None for the server's default.
        description: First paragraph of its docstring.
        origin: The file or cell it came from.
        setup_options: Keyword arguments of a class's `setup`.
        revision: Counts up when the code changes; given by the registry, 0 before.
    """

    name: str
    target: Callable[..., Any]
    schema: OptionsSchema
    stateful: bool
    version: str | None = None
    timeout_s: float | None = None
    engine: EngineName | None = None
    description: str = ""
    origin: str = ""
    setup_options: dict[str, Any] = field(default_factory=dict)
    revision: int = 0

    @property
    def is_class(self) -> bool:
        """Whether it is the class form."""
        return inspect.isclass(self.target)

    def __repr__(self) -> str:
        return f"<Plugin {self.name}, revision {self.revision}, options: {self.schema.summary}>"


def define(
    target: Callable[..., Any],
    name: str | None = None,
    *,
    timeout_s: float | None = None,
    engine: EngineName | None = None,
    version: str | None = None,
    setup: dict[str, Any] | None = None,
) -> Plugin:
    """Describe a function or class as a plugin, without registering it.

    Raises:
        PluginDefinitionError: If the name, signature, engine, time limit or options of `setup` cannot be a plugin's.
    """
    if not hasattr(target, "__name__"):
        raise PluginDefinitionError(f"{target!r} is neither a function nor a class; wrap it in a function")
    chosen = str(name or target.__name__)
    if PLUGIN_NAME.fullmatch(chosen) is None:
        raise PluginDefinitionError(
            f"{chosen!r} is no plugin name: letters, digits, '_', '.', '-', at most 64; "
            'give one with @fs.plugin("name")'
        )
    if engine is not None and engine not in ENGINE_NAMES:
        raise PluginDefinitionError(f"{chosen}: engine={engine!r}; choose one of {', '.join(ENGINE_NAMES)}")
    if timeout_s is not None and not (isinstance(timeout_s, (int, float)) and timeout_s > 0):
        raise PluginDefinitionError(f"{chosen}: timeout_s={timeout_s!r} must be a number greater than 0")
    if inspect.isclass(target):
        check_class(target, chosen)
    call = call_of(target)
    if reason := not_plain(call):
        raise PluginDefinitionError(f"{chosen}: {reason}")
    schema = OptionsSchema(call, skip_first=2 if inspect.isclass(target) else 1)
    if hasattr(target, "new_stream") and "state" not in schema.wants:
        raise PluginDefinitionError(f"{chosen}: has new_stream, so process needs a parameter 'state'")
    doc = inspect.getdoc(target) or ""
    return Plugin(
        name=chosen,
        target=target,
        schema=schema,
        stateful="state" in schema.wants,
        version=version,
        timeout_s=timeout_s,
        engine=engine,
        description=" ".join(doc.partition("\n\n")[0].split()),
        origin=getattr(getattr(call, "__code__", None), "co_filename", ""),
        setup_options=_setup_options(target, chosen, setup or {}),
    )


def _setup_options(target: Callable[..., Any], name: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments that were chosen for a class's `setup`, checked by its annotations."""
    setup: Any = getattr(target, "setup", None) if inspect.isclass(target) else None
    if setup is None and chosen:
        raise PluginDefinitionError(f"{name}: setup={chosen!r:.60} is for a class with def setup(self, ctx, *, …)")
    if setup is None or not (chosen or keyword_only(setup)):
        return {}
    try:
        OptionsSchema(setup, skip_first=2 if inspect.isfunction(setup) else 1).check(chosen)
    except InvalidOptions as error:
        raise PluginDefinitionError(f"{name}: setup: {error}; choose them with @fs.plugin(setup={{…}})") from error
    return dict(chosen)


def call_of(target: Callable[..., Any]) -> Any:
    """What is called for each frame: the function, or the class's `process`."""
    return getattr(target, "process", None) if inspect.isclass(target) else target


@overload
def plugin(target: Target, /) -> Target: ...
@overload
def plugin(
    name: str | None = None,
    /,
    *,
    timeout_s: float | None = None,
    engine: EngineName | None = None,
    version: str | None = None,
    setup: dict[str, Any] | None = None,
) -> Callable[[Target], Target]: ...
@known_keywords({"name": '@fs.plugin("…"), the name in front and without a keyword'})
def plugin(
    target: Callable[..., Any] | str | None = None,
    /,
    *,
    timeout_s: float | None = None,
    engine: EngineName | None = None,
    version: str | None = None,
    setup: dict[str, Any] | None = None,
) -> Any:
    """Make a function or class a plugin: `@fs.plugin`, or `@fs.plugin("name", timeout_s=30, …)`.

    What it decorates stays as it was and can be called directly. Running the cell again replaces the plugin:
    frames in flight finish on the old code, the next frame uses the new; if the new code cannot be loaded,
    the error is raised here and the old plugin stays. A plugin that uses its own name, or what the cell defines below
    it, is registered at the end of the cell, or when it is first used; so is the error then. In a notebook the cell
    shows what it registered.

    Args:
        target: The function or class, or the plugin's name; by default the function's own name.
        timeout_s: Time limit of one frame, in seconds; by default the server's.
        engine: "processes", "threads" or "inline"; by default the server's.
        version: The author's version.
        setup: Keyword arguments of a class's `setup(self, ctx, *, …)`, such as `{"model": "large.pt"}`.

    Returns:
        What it decorates, unchanged.

    Raises:
        PluginDefinitionError: If it cannot be a plugin, saying why and what to do.
    """
    from forgesyte_nb.plugins.cell_end import register_in_turn

    def decorate(decorated: Callable[..., Any]) -> Callable[..., Any]:
        name = target if isinstance(target, str) else None
        register_in_turn(define(decorated, name, timeout_s=timeout_s, engine=engine, version=version, setup=setup))
        return decorated

    return decorate(target) if callable(target) else decorate
