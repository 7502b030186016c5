"""docs/tracing.md is what the code does: its attributes, its errors, its variables."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
from msgspec.structs import replace
from opentelemetry import environment_variables as of_api
from opentelemetry.sdk import environment_variables as of_sdk
from span_recorder import Recorder, install

from fairlane.consumer import pull, signals, verdict
from fairlane.topics import errors, spans, tracing
from fairlane.topics.task import Task

PAGE = (Path(__file__).parent.parent / "docs" / "tracing.md").read_text()


def rows(*columns: str) -> list[list[str]]:
    """The cells of the table with these columns."""
    _, found, rest = PAGE.partition(f"\n| {' | '.join(columns)} |\n")
    assert found, f"docs/tracing.md has no table of {columns}"
    lines = rest.split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_attributes_of_the_page_are_those_of_the_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = install(monkeypatch, Recorder())
    task, failure = Task(id="1", type="t", payload=b"{}", key=b"k"), ValueError("x")
    tracing.create(task, "shop.p3")
    sent, span = tracing.start_send(task, "shop.p3")
    tracing.end_send(span, partition=1, offset=2)
    tracing.end_send(tracing.start_send(task, "shop.p3")[1], error=failure)
    tracing.end_send(tracing.start_resend(replace(sent, replays=1), "shop.p3"), partition=1, offset=2)
    with tracing.process(
        replace(sent, replays=1), topic="shop.p3", partition=1, offset=2, group="g", client_id="w"
    ) as processing:
        processing.failed(failure)
        with tracing.process_batch([(sent, processing)], topic="shop.p3", group="g", client_id="w"):
            pass
    tracing.end_commit(tracing.start_commit([processing.traceparent], group="g", topic="shop.p3"), failure)
    found: dict[str, set[str]] = defaultdict(set)
    for each in sdk.spans():
        for name in each.attributes or {}:
            found[name].add(each.name.split()[0])
    assert {name: set(on.split(", ")) for name, on, _ in rows("attribute", "on", "is")} == found


def test_the_errors_of_the_page_are_classes_of_fairlane() -> None:
    for name, _ in rows("error.type", "says"):
        (kind,) = {vars(module)[name] for module in (signals, verdict, pull, errors) if name in vars(module)}
        assert issubclass(kind, Exception)
        assert spans.error_type(kind.__new__(kind)) == name


def test_the_variables_of_the_page_are_those_of_opentelemetry() -> None:
    known = {value for module in (of_api, of_sdk) for value in vars(module).values() if isinstance(value, str)}
    named = {name for name, _ in rows("variable", "does")} | set(re.findall(r"`(OTEL_\w+)`", PAGE))
    assert named <= known
