"""The rules of the house that a machine can hold: who imports whom, what the core may touch, how long a file may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("app", "topics", "producer", "consumer", "monitor")

MAY_IMPORT = {
    "topics": {"topics"},
    "producer": {"topics", "producer"},
    "consumer": {"topics", "consumer"},
    "monitor": {"topics", "monitor"},
}

# Decisions are state machines without I/O: the simulation runs them unchanged on virtual time.
CORE = (
    "consumer/tracker.py",
    "monitor/explain.py",
    "monitor/pace.py",
    "monitor/store/task_row.py",
    "topics/offset_map.py",
    "consumer/control_state.py",
    "topics/control.py",
    "monitor/order_view.py",
    "consumer/orders.py",
    "consumer/standby.py",
    "topics/condition.py",
    "consumer/scheduler.py",
    "consumer/batches.py",
    "consumer/delays.py",
    "consumer/tiers.py",
    "consumer/fair_reading.py",
    "consumer/turns.py",
    "consumer/flow.py",
    "consumer/retry.py",
    "consumer/assignment.py",
    "consumer/settlement.py",
    "consumer/settle_records.py",
    "consumer/suspects.py",
    "consumer/head_of_line.py",
    "consumer/heard_time.py",
    "consumer/aside.py",
    "consumer/linger.py",
    "consumer/idle_children.py",
    "consumer/adaptive.py",
    "consumer/restarts.py",
    "consumer/scaling.py",
    "consumer/shutdown.py",
    "consumer/health.py",
    "consumer/stall.py",
    "topics/trouble.py",
    "topics/plan.py",
    "topics/routing.py",
    "topics/wire.py",
    "topics/headers.py",
)
NOT_IN_THE_CORE = {"confluent_kafka", "asyncio", "time", "threading", "random", "datetime", "queue", "socket"}

MAX_LINES = 400


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that the file imports, wherever it does so; imports for type checkers do not count."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_the_layout_allows(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        for name in imports(path):
            parts = name.split(".")
            assert parts[0] not in PACKAGES, f"{path}: import fairlane.{name}, not {name}"
            if parts[0] == "fairlane":
                inner = parts[1] if len(parts) > 1 else "app"
                assert inner in MAY_IMPORT[package], f"{path} imports {name}"


@pytest.mark.parametrize("name", CORE)
def test_the_core_decides_without_io_clock_or_threads(name: str) -> None:
    path = ROOT / name
    touched = {module.split(".")[0] for module in imports(path)} & NOT_IN_THE_CORE
    assert not touched, f"{name} imports {touched}"


def test_a_file_has_one_role_and_says_which() -> None:
    for path in modules():
        text = path.read_text()
        assert ast.get_docstring(ast.parse(text)), f"{path} does not say what it is for"
        assert text.count("\n") <= MAX_LINES, f"{path} has more than {MAX_LINES} lines: split it by role"
        assert path.stem not in {"utils", "common", "helpers", "misc"}, f"{path}: name the thing"


def test_a_function_fits_a_screen() -> None:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= 75, f"{path}:{node.lineno} {node.name} has {lines} lines"


def test_every_package_is_in_the_wheel() -> None:
    """`packages` in pyproject.toml is an explicit list: a forgotten one ships a broken wheel."""
    listed = (ROOT / "pyproject.toml").read_text()
    for package in PACKAGES:
        for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
            inner = ".".join(folder.relative_to(ROOT).parts)
            name = "fairlane" + inner.removeprefix("app") if package == "app" else f"fairlane.{inner}"
            assert f'"{name}",' in listed, f"{name} is missing from packages in pyproject.toml"


def test_nobody_asks_an_admin_client_what_a_group_has_committed() -> None:
    """It is a segmentation fault where the coordinator has moved or is not there yet (librdkafka 2.16, and before)."""
    for path in modules():
        assert ".list_consumer_group_offsets(" not in path.read_text(), f"{path}: ask a Consumer for committed()"
