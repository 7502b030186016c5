"""The shared options: which queue on which Kafka, from the command line and the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fairlane.cli.main import app
from fairlane.cli.options import parse_properties, queue_target
from fairlane.settings import kafka_properties
from fairlane.topics.errors import UsageError


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in list(os.environ):
        if variable.startswith("FAIRLANE_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("queue", "queue_url", "environment_url", "bootstrap", "name"),
    [
        ("shop", "", "", "localhost:9092", "shop"),
        ("", "kafka://h1/shop", "", "h1:9092", "shop"),
        ("", "", "kafka://h1:1,h2:2/shop", "h1:1,h2:2", "shop"),
        ("shop", "kafka://h1", "", "h1:9092", "shop"),
        ("shop", "kafka://h1/shop", "", "h1:9092", "shop"),
        # an explicit option beats the environment
        ("other", "", "kafka://h1/shop", "h1:9092", "other"),
        ("", "kafka://h2/other", "kafka://h1/shop", "h2:9092", "other"),
    ],
)
def test_an_explicit_option_beats_the_environment(
    queue: str, queue_url: str, environment_url: str, bootstrap: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLANE_QUEUE_URL", environment_url)
    target = queue_target(queue, queue_url)
    assert (target.connection.bootstrap, target.names.queue) == (bootstrap, name)


def test_a_command_without_a_queue_is_a_usage_error_that_says_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAIRLANE_QUEUE_URL", "kafka://h1")
    with pytest.raises(UsageError, match="--queue NAME"):
        queue_target()


def test_two_explicit_queues_that_differ_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match="different queues"):
        queue_target("other", "kafka://h1/shop")


def test_any_librdkafka_property_passes_through_from_the_environment() -> None:
    environ = {
        "FAIRLANE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "FAIRLANE_KAFKA__LOG_LEVEL": "7",
        "FAIRLANE_KAFKA__": "nothing",
        "FAIRLANE_WORKERS": "10",
    }
    assert kafka_properties(environ) == {"security.protocol": "SASL_SSL", "log_level": "7"}


def test_a_property_on_the_command_line_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLANE_KAFKA__SASL_USERNAME", "bob")
    target = queue_target("shop", properties=["sasl.username=ann", "sasl.password=a=b"])
    assert dict(target.connection.properties) == {"sasl.username": "ann", "sasl.password": "a=b"}


@pytest.mark.parametrize("value", ["sasl.username", "=x", ""])
def test_a_property_that_is_no_key_and_value_is_a_usage_error(value: str) -> None:
    with pytest.raises(UsageError, match="-X key=value"):
        parse_properties([value])


def test_the_file_of_the_directory_counts_where_nothing_else_is_said(tmp_path: Path) -> None:
    (tmp_path / "fairlane.toml").write_text(
        'queue_url = "kafka://h1:1/shop"\ntiers = ["1s", "9s"]\nweights = { 2 = 1 }'
    )
    target = queue_target(grace_s=3)
    assert (target.connection.bootstrap, target.names.queue, target.settings.grace_s) == ("h1:1", "shop", 3)
    assert [tier.name for tier in target.tiers] == ["1s", "9s"]
    assert [lane.topic for lane in target.lanes] == ["shop.p2"]


def commands(group: Any, *words: str) -> Iterator[tuple[str, ...]]:
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *words, name)
    if not getattr(group, "commands", {}) or getattr(group, "invoke_without_command", False):
        yield (*words, *(["--json"] if any("--json" in option.opts for option in group.params) else []))


def test_every_command_speaks_json() -> None:
    """Those that do not are processes that log, and one whose answer is JSON in any case."""
    silent = {words for words in commands(typer.main.get_command(app)) if words[-1:] != ("--json",)}
    assert silent == {("demo",), ("worker",), ("monitor", "serve"), ("topics", "reassignment")}
