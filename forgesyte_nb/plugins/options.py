"""Options of a plugin: from the signature of a function to validation, JSON Schema and keyword arguments.

The keyword-only parameters of a plugin, with their types, `Annotated[..., Field(...)]` and defaults, become one
pydantic model. It is the single source for the door (`INVALID_OPTIONS`), for `/v1/plugins` and for controls.
Unknown options are refused and nothing is converted: "0.8" is no number.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticUserError

from forgesyte_nb.errors import InvalidOptions, PluginDefinitionError
from forgesyte_nb.plugins.option_errors import explain, shown

INJECTED = ("state", "ctx", "options")
"""Parameter names that are no options: the stream's state, the context, the whole options model."""

_REMEMBERED = 64
_EXPLAINED = 5  # errors of one message; a person mends them one by one
_IMMUTABLE = (int, float, str, bool, type(None))


class OptionsSchema:
    """The options of one plugin.

    Attributes:
        model: The pydantic model; also the type of an `options` parameter.
        json_schema: JSON Schema (2020-12) of the options object.
        wants: Which of `INJECTED` the callable takes.
    """

    def __init__(self, call: Callable[..., Any], *, skip_first: int = 1) -> None:
        """Read the signature of `call`.

        Args:
            call: The plugin function, or the `process` method of a class.
            skip_first: Leading parameters that are not options: the frame, and `self` before it.

        Raises:
            PluginDefinitionError: If the signature cannot be that of a plugin.
        """
        name = getattr(call, "__qualname__", repr(call))
        parameters = list(inspect.signature(call).parameters.values())
        leading = parameters[:skip_first]
        if len(leading) < skip_first or any(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in leading):
            raise PluginDefinitionError(
                f"{name}: a plugin takes a frame first: def {_written(name, skip_first)}, *, …)"
            )
        for parameter in parameters[skip_first:]:
            if parameter.name in INJECTED and parameter.kind is parameter.POSITIONAL_ONLY:
                raise PluginDefinitionError(
                    f"{name}: '{parameter.name}' is given by its name, so it cannot stand before a /: "
                    f"def {_written(name, skip_first)}, *, {parameter.name})"
                )
        hints = type_hints(call)
        self.wants = frozenset(p.name for p in parameters[skip_first:] if p.name in INJECTED)
        whole = any(p.name == "options" and p.kind is not p.VAR_KEYWORD for p in parameters[skip_first:])
        model = hints.get("options") if whole else None
        if model in (None, Any):
            model = _model_of(name, _written(name, skip_first), parameters[skip_first:], hints)
        elif not (inspect.isclass(model) and issubclass(model, BaseModel)):
            raise PluginDefinitionError(
                f"{name}: 'options' is the name of all options together, so it cannot be one of type "
                f"{getattr(model, '__name__', model)}: annotate it with a pydantic model, or give it another name"
            )
        elif others := [p.name for p in parameters[skip_first:] if p.name not in INJECTED]:
            raise PluginDefinitionError(
                f"{name}: all options are fields of {model.__name__}; make {', '.join(others)} fields of it, too"
            )
        self.model: type[BaseModel] = model
        self.json_schema: dict[str, Any] = _json_schema_of(name, self.model)
        self._known: OrderedDict[bytes, dict[str, Any]] = OrderedDict()

    def keywords(self, options: bytes) -> dict[str, Any]:
        """Check raw JSON options and return the plugin's option arguments, defaults filled in.

        Args:
            options: JSON text of an object.

        Raises:
            InvalidOptions: Naming the option, its value and what it should be.
        """
        known = self._known.get(options)
        if known is not None:
            return known
        try:
            checked = self.model.model_validate_json(options, strict=True, extra="forbid")
        except ValidationError as error:
            errors = error.errors(include_url=False)
            reasons = [explain(one, self.json_schema) for one in errors[:_EXPLAINED]]
            if len(errors) > _EXPLAINED:
                reasons.append(f"and {len(errors) - _EXPLAINED} more")
            raise InvalidOptions("; ".join(reasons)) from error
        except Exception as error:  # a validator of the plugin's author may raise anything
            raise InvalidOptions(f"options cannot be checked: {type(error).__name__}: {shown(str(error))}") from error
        keywords: dict[str, Any] = {name: getattr(checked, name) for name in type(checked).model_fields}
        if "options" in self.wants:
            keywords = {"options": checked}
        elif all(isinstance(value, _IMMUTABLE) for value in keywords.values()):
            self._known[options] = keywords
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return keywords

    def check(self, options: dict[str, Any]) -> None:
        """Check options given in Python, of which those that are left out need a default.

        Raises:
            InvalidOptions: Naming the option, its value and what it should be.
        """
        try:
            self.model.model_validate(options, strict=True, extra="forbid")
        except ValidationError as error:
            reasons = [explain(one, self.json_schema) for one in error.errors(include_url=False)[:_EXPLAINED]]
            raise InvalidOptions("; ".join(reasons)) from error

    @property
    def summary(self) -> str:
        """The options with their defaults in one line, such as "gain=1.0, mask=False"; "none" if there are none."""
        options = self.json_schema.get("properties", {})
        told = (f"{name}={shown(one['default'])}" if "default" in one else name for name, one in options.items())
        return ", ".join(told) or "none"

    def refused(self, options: bytes) -> dict[str, str | None]:
        """Which of the options, among raw JSON ones, are refused, and why; None of those that there are none of."""
        try:
            self.keywords(options)
        except InvalidOptions as refused:
            if isinstance(refused.__cause__, ValidationError):
                errors = [one for one in refused.__cause__.errors(include_url=False) if one["loc"]]
                gone = {str(one["loc"][0]) for one in errors if one["type"] == "extra_forbidden" and not one["loc"][1:]}
                return dict.fromkeys(gone) | {
                    name: explain(one, self.json_schema)
                    for one in reversed(errors)
                    if (name := str(one["loc"][0])) not in gone
                }
        return {}


def check_size(options: bytes, *, max_bytes: int, max_depth: int = sys.maxsize) -> None:
    """Refuse options that are too large or nested too deeply, whatever the plugin.

    Raises:
        InvalidOptions: With the size or depth found and the limit.
    """
    if len(options) > max_bytes:
        raise InvalidOptions(
            f"options are {len(options)} bytes, the limit is {max_bytes}: give the path of a file that the plugin "
            "reads, or serve with Settings(max_options_bytes=…)"
        )
    if options.count(b"[") + options.count(b"{") > max_depth:
        try:
            depth = _depth(msgspec.json.decode(options))
        except RecursionError:
            depth = 1000
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:  # headers of binary messages need not be UTF-8
            raise InvalidOptions(f"options: {error}") from error
        if depth > max_depth:
            raise InvalidOptions(f"options are nested {depth} or more levels deep, the limit is {max_depth}")


def _depth(thing: Any) -> int:
    """Levels of nesting, counted without recursion."""
    deepest, level = 0, [thing]
    while level:
        deepest += 1
        nested: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                nested.extend(item.values())
            elif isinstance(item, list):
                nested.extend(item)
        level = [item for item in nested if isinstance(item, (dict, list))]
    return deepest


def type_hints(call: Callable[..., Any]) -> dict[str, Any]:
    """Types of the parameters, annotations written as text resolved.

    Raises:
        PluginDefinitionError: If an annotation names something that does not exist.
    """
    try:
        return get_type_hints(call, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise PluginDefinitionError(
            f"{getattr(call, '__qualname__', call)}: the annotation names something unknown: {error}"
        ) from error


def _written(name: str, leading: int) -> str:
    """How the definition of a plugin function or method begins, up to its frame."""
    return f"{name.rpartition('.')[2]}({'self, ' if leading > 1 else ''}frame"


def _model_of(name: str, written: str, parameters: list[inspect.Parameter], hints: dict[str, Any]) -> type[BaseModel]:
    options: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            raise PluginDefinitionError(f"{name}: name each option; '**{parameter.name}' could not be checked")
        if parameter.name in INJECTED or parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.name.startswith("_") or (parameter.name[:6] == "model_" and hasattr(BaseModel, parameter.name)):
            raise PluginDefinitionError(f"{name}: '{parameter.name}' cannot be the name of an option; choose another")
        if parameter.kind is not parameter.KEYWORD_ONLY:
            raise PluginDefinitionError(
                f"{name}: '{parameter.name}' must be keyword-only: put a * before it, "
                f"def {written}, *, {parameter.name}=…)"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        options[parameter.name] = (hints.get(parameter.name, Any), default)
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    try:
        with warnings.catch_warnings():
            # Options may be called `json` or `copy`: nobody calls the model's old methods of that name.
            warnings.filterwarnings("ignore", message="Field name", category=UserWarning)
            model: type[BaseModel] = create_model(f"{name.rpartition('.')[2]}_options", __config__=config, **options)
        _check_defaults(name, model)
        return model
    except (PydanticUserError, NameError, TypeError, ValueError) as error:
        raise PluginDefinitionError(f"{name}: its options cannot be described: {error}") from error


def _check_defaults(name: str, model: type[BaseModel]) -> None:
    """A default that its own type refuses would come to light only in the plugin."""
    for option, field in model.model_fields.items():
        if not field.is_required() and field.default is not None:
            try:
                model.__pydantic_validator__.validate_assignment(model.model_construct(), option, field.default)
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                raise PluginDefinitionError(
                    f"{name}: the default of '{option}', {shown(field.default)}, is no value for it: {reason}"
                ) from error


def _json_schema_of(name: str, model: type[BaseModel]) -> dict[str, Any]:
    try:
        return model.model_json_schema()
    except PydanticUserError as error:
        raise PluginDefinitionError(f"{name}: its options cannot be described: {error}") from error
