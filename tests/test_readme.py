"""What README and design say is so: its code runs, its first example is the demo's, its names and links exist.

What do these tests do? They take the README's blocks as a newcomer would copy them, and run them without Kafka.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

from fairlane import Fairlane
from fairlane.cli.main import app as command_line
from fairlane.demo import tasks
from fairlane.settings import Settings
from fairlane.testing import eager

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def section(heading: str) -> str:
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {heading!r}"
    return found[1]


def run(source: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    module = ModuleType("readme")
    vars(module).update(names or {})
    # Annotations are looked up in the module that a function says it is of.
    sys.modules["readme"] = module
    exec(compile(source, "README.md", "exec"), vars(module))
    return vars(module)


@pytest.fixture(autouse=True)
def _tasks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tasks", tasks)


def test_the_first_example_is_the_code_of_the_demos_tasks() -> None:
    assert blocks("python")[0] == (ROOT / "app/demo/tasks.py").read_text()


def test_the_second_example_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with eager(tasks.app):
        run(blocks("python")[1])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("enqueued ")
    shown = section("Install and run")
    assert all(line in shown for line in printed[1:])
    assert len(printed) == 3


def test_the_example_of_tasks_runs_and_its_tasks_complete() -> None:
    definitions, enqueues = (block for block in blocks("python") if "place_order" in block)
    defined = run(definitions)
    app = defined["app"]
    assert isinstance(app, Fairlane)
    with eager(app) as runs:
        run(enqueues, defined)
    assert {found.state for found in runs} == {"completed"}


def test_the_example_of_batches_locates_what_there_is_and_rejects_the_rest() -> None:
    class Geocoder:
        async def look_up(self, cities: list[str]) -> dict[str, str]:
            return {city: "38.7 N, 9.1 W" for city in cities if city == "Lisbon"}

    (example,) = (block for block in blocks("python") if "BatchPolicy" in block)
    app = Fairlane("shop")
    with eager(app) as runs:
        defined = run(example, {"app": app, "geocoder": Geocoder()})
        app.enqueue_many([defined["locate"].call(city) for city in ("Lisbon", "Atlantis")])
    assert defined["place"].result() == "38.7 N, 9.1 W"
    assert [found.state for found in runs] == ["completed", "completed", "failed"]


def test_the_example_of_a_users_test_passes() -> None:
    (example,) = (block for block in blocks("python") if "def test_" in block)
    run(example)["test_a_card_is_charged_although_the_bank_hangs_up_once"]()


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
def test_every_link_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    titles = re.findall(r"^##+ (.+)$", text, re.MULTILINE)
    headings = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        assert not path or ((ROOT / page).parent / path).exists(), target
        assert path or anchor in headings, target


def test_the_tests_that_hold_the_guarantees_exist() -> None:
    held = re.findall(r"`(test_\w+)` in `(\w+\.py)`", (ROOT / "docs/design.md").read_text())
    assert len(held) > 10
    for name, file in held:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), name


def test_every_setting_is_told_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]*)`? \|", section("Settings"), re.MULTILINE))
    assert set(rows) == set(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        if name in rows and isinstance(field.default, int | float | str):
            said = f"{field.default:.0f}" if isinstance(field.default, float) else str(field.default)
            assert rows[name] == (said.lower() if isinstance(field.default, bool) else said)


def test_every_command_and_every_verb_is_told() -> None:
    commands = typer.main.get_command(command_line).commands  # type: ignore[attr-defined]  # it is a group
    told = section("Command line")
    assert {name for name in commands if f"| `fairlane {name}" not in told} == set()
    verbs = re.findall(r"^([a-z-]+):.*?## (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [line for verb, what in verbs if (line := f"  make {verb:<14} {what}") not in README] == []
