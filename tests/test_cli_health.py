"""`fairlane health`: what a container's health check runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from fairlane.cli.main import app
from fairlane.consumer.health_port import HealthPort

OK = {"name": "reader", "ok": True, "says": "polls", "age_s": 0.1, "limit_s": 15.0}
BLOCKED = {"name": "event_loop", "ok": False, "says": "blocked", "age_s": 4.0, "limit_s": 1.0}
ALIVE: dict[str, Any] = {"status": "ok", "checks": [OK]}
NOT_READY: dict[str, Any] = {"status": "failed", "checks": [BLOCKED, OK]}


@pytest.fixture
def port() -> Iterator[int]:
    made = HealthPort("127.0.0.1", 0, {"/livez": lambda: ALIVE, "/readyz": lambda: NOT_READY})
    made.start()
    yield made.port
    made.close()


def run(*arguments: str, **environment: str) -> Any:
    return CliRunner().invoke(app, ["health", *arguments], env=environment)


def test_a_worker_that_is_not_ready_is_1_and_says_what_is_wrong(port: int) -> None:
    done = run("--port", str(port))
    assert done.exit_code == 1
    assert [line.split() for line in done.output.splitlines()] == [
        ["FAILED", "event_loop", "blocked", "(4", "s", "of", "1", "s)"],
        ["ok", "reader", "polls", "(0.1", "s", "of", "15", "s)"],
    ]


def test_a_worker_that_is_alive_is_0(port: int) -> None:
    assert run("--live", "--port", str(port)).exit_code == 0


def test_the_port_is_the_one_that_the_worker_was_told_by_the_environment(port: int) -> None:
    told = {"FAIRLANE_HEALTH_PORT": str(port), "FAIRLANE_HEALTH_HOST": "0.0.0.0"}
    assert run("--live", **told).exit_code == 0


def test_where_nobody_answers_is_1(port: int) -> None:
    del port
    done = run("--port", "1", "--timeout", "1")
    assert done.exit_code == 1
    assert "no worker answers at 127.0.0.1:1" in done.output


def test_another_server_is_no_worker() -> None:
    made = HealthPort("127.0.0.1", 0, {"/readyz": lambda: {"status": "ok"}})
    made.start()
    try:
        assert run("--port", str(made.port)).exit_code == 1
    finally:
        made.close()
