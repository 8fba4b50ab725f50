"""Makes one ES module out of several, because a widget's front end travels as one text.

Deliberately simple: at the start of a line it knows `import { a, b } from "./x.js";`, `export class|function|async
function|const`, `export default` and `export { a } from "./x.js";`; anything else that imports or exports is an
error. Each module becomes a function that returns what it exports, so that names of two modules cannot clash. Files
are found by name in the folders given, so no two may share one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = (_PACKAGE / "widgets" / "front", _PACKAGE / "server" / "page")
"""Where the modules of the front end lie: the widgets' own, and those they share with the server's page."""

_IMPORT = re.compile(r'import \{ ([\w$]+(?:, [\w$]+)*) \} from "\./([\w.-]+\.js)";')
_PASS_ON = re.compile(r'export \{ ([\w$]+(?:, [\w$]+)*) \} from "\./([\w.-]+\.js)";')
_EXPORT = re.compile(r"export ((?:class|function\*?|async function\*?|const) ([\w$]+)\b.*)")
_DEFAULT = re.compile(r"export default (.*)")
_UNKNOWN = re.compile(r"(?:import|export)\b")
_INSIDE = re.compile(r"\bimport\s*\(|\bimport\.meta\b")
_COMMENT = re.compile(r"\s*(?:\*|/\*|//)")


class BundleError(ValueError):
    """A module says something that this bundler does not know."""


@cache
def front_end() -> str:
    """The ES module of all widgets."""
    return bundle("main.js", FOLDERS)


@cache
def style_sheet() -> str:
    """The CSS of all widgets."""
    return (FOLDERS[0] / "widgets.css").read_text("utf-8")


def bundle(entry: str, folders: Sequence[Path]) -> str:
    """One module out of a file and all it imports.

    Args:
        entry: Name of the file whose exports are those of the whole.
        folders: Where files are looked for, in this order.

    Returns:
        The text of an ES module.

    Raises:
        BundleError: If a file is missing, imports in a circle, or says what this bundler does not know.
    """
    modules: dict[str, _Module] = {}
    _add(entry, folders, modules, ())
    texts = [module.text for module in modules.values()]
    whole = modules[entry]
    names = [name for name in whole.exports if name != "default"]
    if "default" in whole.exports:
        texts.append(f"export default {whole.variable}.default;\n")
    if names:
        texts.append(f"export const {{ {', '.join(names)} }} = {whole.variable};\n")
    return "\n".join(texts)


def _add(name: str, folders: Sequence[Path], modules: dict[str, _Module], importers: tuple[str, ...]) -> None:
    """Put a module behind all it imports."""
    if name in modules:
        return
    if name in importers:
        raise BundleError(f"{' → '.join((*importers, name))}: modules import each other in a circle")
    path = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if path is None:
        raise BundleError(f"{importers[-1] if importers else 'the bundle'} asks for {name}, which is not there")
    module = _Module(name, path.read_text("utf-8"))
    for imported, names in module.imports:
        _add(imported, folders, modules, (*importers, name))
        missing = set(names) - set(modules[imported].exports)
        if missing:
            raise BundleError(f"{name}: {imported} does not export {', '.join(sorted(missing))}")
    modules[name] = module


class _Module:
    """One file, taken apart.

    Attributes:
        variable: What its exports are called in the bundle.
        imports: Files, with the names wanted of each.
        exports: Names, "default" among them if there is one.
        text: Its part of the bundle.
    """

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.variable = _variable(name)
        self.imports: list[tuple[str, list[str]]] = []
        self.exports: dict[str, str] = {}
        body = "\n".join(self._line(line, number) for number, line in enumerate(source.splitlines(), 1))
        given = ", ".join(f"{name}: {value}" for name, value in self.exports.items())
        self.text = f"const {self.variable} = (() => {{ // {name}\n{body}\nreturn {{ {given} }};\n}})();\n"

    def _line(self, line: str, number: int) -> str:
        if match := _IMPORT.fullmatch(line):
            self.imports.append((match[2], match[1].split(", ")))
            return f"const {{ {match[1]} }} = {_variable(match[2])};"
        if match := _PASS_ON.fullmatch(line):
            self.imports.append((match[2], match[1].split(", ")))
            self.exports.update({name: f"{_variable(match[2])}.{name}" for name in match[1].split(", ")})
            return ""
        if match := _DEFAULT.fullmatch(line):
            self.exports["default"] = "$default"
            return f"const $default = {match[1]}"
        if match := _EXPORT.fullmatch(line):
            self.exports[match[2]] = match[2]
            return match[1]
        if _UNKNOWN.match(line) or (_INSIDE.search(line) and not _COMMENT.match(line)):
            raise BundleError(f"{self.name}:{number}: {line.strip()!r} is no import or export that the bundler knows")
        return line


def _variable(name: str) -> str:
    return "$" + re.sub(r"\W", "_", name.removesuffix(".js"))
