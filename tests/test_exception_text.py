"""What logs and spans have of an exception: bounded, without secrets, and without a word of it where that is set."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from span_recorder import Recorder

from fairlane import logs
from fairlane.topics import exception_text, secrets, spans

SECRET = "correct-horse-battery"


class Unsayable(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


def raised(error: BaseException) -> BaseException:
    try:
        try:
            raise ConnectionError("card 4111")
        except ConnectionError as cause:
            raise error from cause
    except BaseException as found:  # noqa: BLE001 - whatever it is
        return found


@pytest.fixture
def hidden() -> Iterator[None]:
    exception_text.show(False)
    yield
    exception_text.show(True)


def event(error: BaseException) -> dict[str, Any]:
    """The attributes of the event of a span that failed."""
    recorder = Recorder()
    span = recorder.provider.get_tracer("test").start_span("process")
    spans.record_error(span, error)
    span.end()
    (found,) = recorder.one("process").events
    assert found.name == "exception"
    return dict(found.attributes or {})


def test_a_span_has_what_an_exception_says_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_kept", (SECRET,))
    said = event(raised(ValueError(f"{SECRET} " + "x" * 1_000_000)))
    assert said["exception.type"] == "ValueError"
    assert said["exception.message"].startswith("*** xxx")
    assert len(said["exception.message"]) == exception_text.MESSAGE_MAX_CHARS
    assert len(said["exception.stacktrace"]) <= exception_text.TRACE_MAX_CHARS + 1
    assert "card 4111" in event(raised(ValueError("x")))["exception.stacktrace"]


@pytest.mark.parametrize("error", [Unsayable(), ValueError("\ud800")])
def test_what_cannot_be_said_is_told_all_the_same(error: BaseException) -> None:
    said = event(raised(error))
    assert said["exception.message"].encode()


@pytest.mark.usefixtures("hidden")
def test_a_span_has_where_it_was_raised_and_nothing_that_is_said() -> None:
    said = event(raised(ValueError("card 4111")))
    assert "exception.message" not in said
    assert "4111" not in said["exception.stacktrace"]
    first, second = said["exception.stacktrace"].split("\n\n")
    assert first.endswith("ConnectionError")
    assert second.endswith("ValueError")
    assert "test_exception_text.py" in second
    assert "in raised" in second


@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_so_has_a_log_whoever_writes_it(log_format: logs.LogFormat) -> None:
    out = io.StringIO()
    logs.configure(log_format, "info", out)
    try:
        logging.getLogger("shop").error("it failed", exc_info=raised(ValueError("card 4111")))
    finally:
        logs.configure("text", "info")
    assert "ConnectionError" in out.getvalue()
    assert "in raised" in out.getvalue()
    assert "4111" not in out.getvalue()
