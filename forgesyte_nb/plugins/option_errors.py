"""Options that a plugin's schema refuses, in a sentence for each: which one, what was given, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

_LIMITS = (
    ("le", "is greater than"),
    ("ge", "is less than"),
    ("lt", "is not less than"),
    ("gt", "is not greater than"),
)


def explain(error: Any, schema: dict[str, Any]) -> str:
    """One sentence on one error.

    Args:
        error: One of `ValidationError.errors()`.
        schema: JSON Schema of the options.
    """
    path: Sequence[str | int] = error["loc"]
    where = cut(".".join(map(str, path))) or "options"
    if error["type"] == "extra_forbidden":
        return f"{where}: {_no_such(path, schema)}"
    if error["type"] == "missing":
        return f"{where}: field required"
    limits = error.get("ctx", {})
    for key, words in _LIMITS:
        if key in limits:
            return f"{where}: {shown(error['input'])} {words} {limits[key]}"
    if error["type"] == "json_invalid":
        return f"options: {error['msg']}"
    return f"{where}: {error['msg'][0].lower()}{error['msg'][1:]}, got {shown(error['input'])}"


def _no_such(path: Sequence[str | int], schema: dict[str, Any]) -> str:
    """There is no such option, or no such field of one: what there is where it was given."""
    *parents, name = path
    names = _names_at(parents, schema)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    known = f"known: {', '.join(names)}" if names else "there are none" if parents else "this plugin takes none"
    return f"no such {'field' if parents else 'option'}{hint} ({known})"


def _names_at(path: Sequence[str | int], schema: dict[str, Any]) -> list[str]:
    """The names that an object in the options may have; empty if it may have none, or the schema does not say."""
    node: Any = schema
    for part in path:
        node = _part_of(_resolved(node, schema), part, schema)
    return list(_resolved(node, schema).get("properties", ()))


def _part_of(node: dict[str, Any], part: str | int, schema: dict[str, Any]) -> Any:
    """The schema of an item or a field; of a union pydantic names the member instead."""
    if isinstance(part, int):
        fixed = node.get("prefixItems", ())
        return fixed[part] if part < len(fixed) else node.get("items")
    if part in node.get("properties", ()):
        return node["properties"][part]
    for member in node.get("anyOf", node.get("oneOf", ())):
        if _resolved(member, schema).get("title") == part:
            return member
    return node.get("additionalProperties")


def _resolved(node: Any, schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its reference followed; of one that may be null what it is otherwise."""
    while isinstance(node, dict):
        members = [one for one in node.get("anyOf", ()) if one != {"type": "null"}]
        if "$ref" in node:
            node = schema.get("$defs", {}).get(node["$ref"].rpartition("/")[2])
        elif len(members) == 1:
            node = members[0]
        else:
            return node
    return {}


def shown(value: object) -> str:
    """The `repr` of a value, cut to a line."""
    return cut(repr(value))


def cut(text: str) -> str:
    """Text of at most 60 characters."""
    return text if len(text) <= 60 else text[:57] + "…"
