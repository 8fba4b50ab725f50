"""Options of a plugin as a client takes them: merged, and written as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from forgesyte_nb.errors import InvalidOptions


def encode_options(options: dict[str, Any] | None) -> bytes:
    """The JSON of a plugin's options.

    NumPy numbers are taken as numbers. Paths, sets, bytes (UTF-8), enumerations, times, dataclasses and pydantic models
    are written as pydantic reads them where a plugin declares them.

    Raises:
        InvalidOptions: If they are no dict, or hold what JSON cannot say.
    """
    if not options:
        return b"{}"
    if not isinstance(options, dict):
        raise InvalidOptions(f"options are a dict such as {{'threshold': 0.8}}, not {type(options).__name__}")
    try:
        return orjson.dumps(
            options, default=to_jsonable_python, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        )
    except TypeError as error:
        raise InvalidOptions(f"options hold what JSON cannot say: {error.__cause__ or error}") from error


def merge_options(options: Any, more: dict[str, Any]) -> dict[str, Any]:
    """Options given as a dict, or as an instance of the plugin's options model, and those given as keywords.

    Raises:
        TypeError: If `options` is neither.
    """
    if isinstance(options, BaseModel):
        options = options.model_dump(mode="json", by_alias=True)
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(
            f"options of type {type(options).__name__}: give a dict, such as {{'threshold': 0.8}}, or the options as "
            "keywords, such as threshold=0.8"
        )
    return {**(options or {}), **more}
