"""The registry: revisions, trials that fail, names that are not there."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
from IPython.lib.pretty import pretty

from forgesyte_nb.errors import PluginNotFound
from forgesyte_nb.plugins.registry import Entry, Registry
from tests.conftest import PATIENCE_S, run_cell

ONE = """
@fs.plugin
def count(frame, *, step: int = 1):
    return {"value": 1}
"""
TWO = ONE.replace('"value": 1', '"value": 2')


def revision(registry: Registry, name: str = "count") -> int:
    return registry.entry(name).plugin.revision


def value(registry: Registry) -> Any:
    return registry.entry("count").plugin.target(None)["value"]


def test_changed_code_is_a_new_revision_and_equal_code_is_not() -> None:
    registry = Registry()
    seen = []
    for source in (ONE, ONE, TWO, TWO, ONE):
        run_cell(source, registry)
        seen.append((revision(registry), value(registry)))
    assert [number for number, _ in seen] == [1, 1, 2, 2, 3]
    assert [value for _, value in seen] == [1, 1, 2, 2, 1]


def test_changed_surroundings_and_arguments_are_a_new_revision() -> None:
    registry = Registry()
    for number, source in enumerate(
        (
            "K = 1\n@fs.plugin\ndef count(frame): return {'value': K}",
            "K = 2\n@fs.plugin\ndef count(frame): return {'value': K}",
        ),
        start=1,
    ):
        run_cell(source, registry)
        assert revision(registry) == number
    run_cell("K = 2\n@fs.plugin(timeout_s=3)\ndef count(frame): return {'value': K}", registry)
    assert revision(registry) == 3
    assert registry.entry("count").plugin.timeout_s == 3


@pytest.mark.parametrize(
    "source",
    [
        "@fs.plugin\nclass C:\n    def process(self, frame): return {'n': 1}",
        "import numpy as np\nK = {'a', 'b', 'c'}\n@fs.plugin\ndef C(frame): return {'k': sorted(K), 'n': np.mean([1])}",
        "def helper(x):\n    return x\n@fs.plugin\ndef C(frame): return {'k': helper(1)}",
    ],
    ids=["class", "globals", "helper"],
)
def test_a_cell_run_again_unchanged_keeps_its_revision(source: str) -> None:
    registry = Registry()
    for _ in range(3):
        run_cell(source, registry)
    assert revision(registry, "C") == 1


def test_a_trial_that_fails_leaves_the_old_one_in_force() -> None:
    registry = Registry()
    run_cell(ONE, registry)
    tried: list[Entry] = []

    def trial(entry: Entry) -> None:
        tried.append(entry)
        raise RuntimeError("no weights")

    registry.add_trial(trial)
    with pytest.raises(RuntimeError, match="no weights"):
        run_cell(TWO, registry)
    assert (revision(registry), value(registry)) == (1, 1)
    assert tried[0].plugin.revision == 2
    assert tried[0].payload is not None
    assert tried[0].payload.revision == 2
    assert "cannot be loaded: no weights" in registry.failures["count"]
    registry.remove_trial(trial)
    registry.remove_trial(trial)
    run_cell(TWO, registry)
    assert value(registry) == 2
    assert revision(registry) > 1
    assert registry.failures == {}


def test_going_back_to_the_old_code_after_a_failed_trial_ends_the_failure() -> None:
    registry = Registry()
    run_cell(ONE, registry)

    def trial(entry: Entry) -> None:
        raise RuntimeError("no weights")

    registry.add_trial(trial)
    with pytest.raises(RuntimeError):
        run_cell(TWO, registry)
    run_cell(ONE, registry)
    assert registry.failures == {}
    assert revision(registry) == 1


def test_the_newer_of_two_that_are_tried_at_once_stays() -> None:
    registry = Registry()
    late: list[str] = [TWO]

    def trial(entry: Entry) -> None:
        if entry.plugin.revision == 1:
            run_cell(late.pop(), registry)  # as another thread would, while the first is still being tried

    registry.add_trial(trial)
    run_cell(ONE, registry)
    assert (revision(registry), value(registry)) == (2, 2)


def test_a_plugin_of_this_process_has_no_payload() -> None:
    registry = Registry()
    run_cell(
        "import threading\nlock = threading.Lock()\n"
        "@fs.plugin(engine='threads')\ndef p(frame): return {'l': lock.locked()}",
        registry,
    )
    assert registry.entry("p").payload is None


def test_a_name_that_is_not_there() -> None:
    registry = Registry()
    with pytest.raises(PluginNotFound) as caught:
        registry.entry("ocr")
    assert str(caught.value) == "No plugin 'ocr'. None is loaded; define one with @fs.plugin"
    run_cell("@fs.plugin\ndef ocr(frame): return {}\n@fs.plugin\ndef zebra(frame): return {}", registry)
    for name in ("ocrr", "OCR", "o c r", "oc"):
        with pytest.raises(PluginNotFound) as caught:
            registry.entry(name)
        hint = "; did you mean 'ocr'?" if name not in ("OCR",) else "."
        assert str(caught.value) == f"No plugin '{name}'{hint} Loaded: ocr, zebra"
    registry.unregister("ocr")
    with pytest.raises(PluginNotFound):
        registry.entry("ocr")
    with pytest.raises(PluginNotFound):
        registry.unregister("ocr")


def test_a_huge_name_is_answered_shortly() -> None:
    registry = Registry()
    run_cell(ONE, registry)
    with pytest.raises(PluginNotFound) as caught:
        registry.entry("count" * 3_000_000)
    assert len(str(caught.value)) < 200


def test_a_plugin_that_failed_to_load_says_so_instead_of_not_found() -> None:
    registry = Registry()
    registry.fail("net", "no weights")
    with pytest.raises(PluginNotFound, match="'net' could not be loaded: no weights"):
        registry.entry("net")
    registry.clear_failure("net")
    registry.clear_failure("net")
    assert registry.failures == {}


def test_a_revision_number_is_never_given_twice() -> None:
    registry = Registry()
    run_cell(ONE, registry)
    registry.unregister("count")
    run_cell(TWO, registry)
    assert revision(registry) == 2


def test_a_text_that_looks_like_cloudpickles_ids_still_counts() -> None:
    registry = Registry()
    source = "@fs.plugin\nclass C:\n    def process(self, frame): return {'model': '%s'}"
    for number, digest in enumerate(("0123456789abcdef" * 2, "fedcba9876543210" * 2), start=1):
        run_cell(source % digest, registry)
        assert revision(registry, "C") == number


def test_the_registry_answers_while_a_plugin_is_pickled() -> None:
    registry = Registry()
    run_cell(ONE, registry)
    answered: list[int] = []

    class Heavy:
        """Asks the registry, from another thread, while it is being pickled."""

        def __reduce__(self) -> Any:
            asking = threading.Thread(target=lambda: answered.append(len(registry.plugins())), daemon=True)
            asking.start()
            asking.join(PATIENCE_S)
            return dict, ()

    run_cell("@fs.plugin\ndef heavy(frame): return {'n': len(weights)}", registry, weights=Heavy())
    assert answered
    assert set(answered) == {1}


def test_the_plugins_are_a_list_that_is_read_a_line_each() -> None:
    registry = Registry()
    assert repr(registry.plugins()) == "[]"
    run_cell("@fs.plugin\ndef plain(frame): return {}", registry)
    run_cell("@fs.plugin\ndef tuned(frame, *, low: int, mask: bool = False, name: str = 'n' * 99): return {}", registry)
    plugins = registry.plugins()
    tuned = "low, mask=False, name='" + "n" * 56 + "…"
    assert repr(plugins) == (f"[plain, revision 1, ok; options: none,\n tuned, revision 1, ok; options: {tuned}]")
    assert repr(plugins[1]) == f"<Plugin tuned, revision 1, options: {tuned}>"
    assert isinstance(plugins, list)
    assert plugins == list(plugins)
    assert repr(copy.copy(plugins)) == repr(plugins)
    registry.fail("plain", "revision 2 cannot be loaded: no such module")
    assert repr(registry.plugins()).startswith(
        "[plain, revision 1, failed (revision 2 cannot be loaded: no such module); options: none,"
    )
    assert pretty(registry.plugins()) == repr(registry.plugins()), "as a cell shows it"
