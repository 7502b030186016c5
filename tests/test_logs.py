"""A log record is one line, names the task and the trace that it was made in, and is never lost."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from records import ID, TRACEPARENT, read, without

from fairlane import logs
from fairlane.consumer.batch_context import BatchContext
from fairlane.consumer.context import Context, current
from fairlane.consumer.outcome import OutboxRecord
from fairlane.topics.errors import UsageError
from fairlane.topics.task import Task

log = logging.getLogger("fairlane.tests")


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines_of(form: logs.LogFormat, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(form, level, stream)
    return stream


def one_object(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def running(task: Task) -> Context:
    def no_record(task: Task) -> OutboxRecord:
        raise AssertionError("nothing is sent here")

    context = Context(task, None, no_record)
    current.set(context)
    return context


def in_task(task: Task, message: str) -> None:
    """Log as a handler of a task does, in a context of its own."""

    def handler() -> None:
        running(task)
        log.info(message)

    copy_context().run(handler)


def test_a_json_line_has_time_level_logger_and_message() -> None:
    stream = lines_of("json")
    log.warning("%d tasks\nwait", 3)
    line = one_object(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {"level": "warning", "logger": "fairlane.tests", "message": "3 tasks\nwait"}


def test_what_a_handler_logs_names_its_task_and_trace() -> None:
    stream = lines_of("json")
    in_task(read(), "sent")
    line = one_object(stream)
    assert (line["task_id"], line["task_type"], line["attempt"]) == (ID, "send_email", 1)
    assert line["trace_id"] == TRACEPARENT.decode().split("-")[1]


@pytest.mark.parametrize("size", [1, 2])
def test_what_a_handler_of_batches_logs_names_their_type_and_size_or_the_one_task(size: int) -> None:
    stream = lines_of("json")

    def handler() -> None:
        current.set(BatchContext("send_email", tuple(running(read()) for _ in range(size)), None))
        log.info("by another logger")
        current.get().log.info("by the context")
        current.get().each[0].log.info("of one")

    copy_context().run(handler)
    named = ("task_id", "batch_size", "task_type", "attempt")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    found = [{name: line[name] for name in named if name in line} for line in lines]
    one = {"task_id": ID, "task_type": "send_email", "attempt": 1}
    assert found == [*[one if size == 1 else {"batch_size": 2, "task_type": "send_email"}] * 2, one]
    logs.configure("text", stream=(text := io.StringIO()))
    copy_context().run(handler)
    assert size == 1 or text.getvalue().splitlines()[0].endswith("(send_email, batch_size=2)")


def test_a_library_that_a_handler_calls_names_it_too_and_other_threads_do_not() -> None:
    stream = lines_of("json")

    def handler() -> None:
        running(read(without("traceparent")))
        logging.getLogger("somebody.elses").info("inside")
        other = threading.Thread(target=log.info, args=("outside",))
        other.start()
        other.join(60)

    copy_context().run(handler)
    inside, outside = map(json.loads, stream.getvalue().splitlines())
    assert (inside["task_id"], "trace_id" in inside) == (ID, False)
    assert "task_id" not in outside


def test_the_current_span_names_the_trace_before_the_task_does() -> None:
    stream = lines_of("json")
    token = attach(trace.set_span_in_context(NonRecordingSpan(SpanContext(1, 2, False, TraceFlags(1)))))
    in_task(read(), "sent")
    detach(token)
    line = one_object(stream)
    assert (line["trace_id"], line["span_id"]) == (f"{1:032x}", f"{2:016x}")


def test_the_log_of_the_context_says_what_it_says() -> None:
    stream = lines_of("json")
    copy_context().run(lambda: running(read()).log.info("sent", extra={"to": "ada"}))
    line = one_object(stream)
    assert (line["task_id"], line["to"], line["logger"]) == (ID, "ada", "fairlane.task")


def test_extra_fields_are_fields_and_what_is_no_json_is_shown() -> None:
    stream = lines_of("json")
    log.info("x", extra={"count": 3, "path": {"a": object}, "odd": {(1, 2): "\udce9"}})
    line = one_object(stream)
    assert line["count"] in (3, "3")
    assert "object" in str(line["path"])
    assert "(1, 2)" in str(line["odd"])


def test_an_exception_is_a_field_on_the_same_line() -> None:
    stream = lines_of("json")
    try:
        raise ValueError("boom")
    except ValueError:
        log.exception("failed")
    assert "ValueError: boom" in one_object(stream)["exception"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_message_whose_arguments_do_not_fit_is_not_lost(
    form: logs.LogFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest's own handlers raise where a record cannot be formatted.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    stream = lines_of(form)
    log.info("%d tasks", "many")
    assert "%d tasks" in stream.getvalue()
    assert "many" in stream.getvalue()


def test_a_text_line_is_for_people() -> None:
    stream = lines_of("text")
    in_task(read(without("traceparent")), "sent it")
    assert re.fullmatch(
        rf"\d\d:\d\d:\d\d\.\d{{3}} INFO    tests: sent it  \(send_email {ID}, attempt 1\)\n", stream.getvalue()
    )


def test_a_text_line_has_its_traceback_under_it() -> None:
    stream = lines_of("text")
    try:
        raise ValueError("boom")
    except ValueError:
        log.exception("failed")
    head, *rest = stream.getvalue().splitlines()
    assert head.endswith("ERROR   tests: failed")
    assert rest[-1] == "    ValueError: boom"


def test_nothing_in_a_record_of_text_acts_on_a_terminal_or_looks_like_another_record() -> None:
    """What an exception says is often a part of a payload, and so are names of fields that nobody knows."""
    forged = "no\n09:00:00.000 ERROR   worker: owned\x1b[2J\u202e\r"
    stream = lines_of("text")
    try:
        raise ValueError(forged)
    except ValueError as error:
        log.error("failed: %s", error, exc_info=True, extra={"field": forged})
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if not line.startswith("    ")] == lines[:1]
    assert not {"\x1b", "\r", "\u202e"} & set(stream.getvalue())
    assert r"owned\x1b[2J\u202e" in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_text_is_coloured_only_in_a_terminal_that_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = Terminal()
    logs.configure("text", "info", coloured)
    log.error("x")
    assert "\x1b[31m" in coloured.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    logs.configure("text", "info", plain)
    log.error("x")
    assert "\x1b" not in plain.getvalue()


def test_the_level_is_the_least_that_is_logged() -> None:
    stream = lines_of("json", "Warning")
    log.info("no")
    log.warning("yes")
    assert one_object(stream)["message"] == "yes"


def test_configuring_again_replaces_ours_and_keeps_what_is_the_users() -> None:
    theirs = logging.NullHandler()
    logging.getLogger().addHandler(theirs)
    first, second = lines_of("json"), lines_of("text")
    log.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1
    assert theirs in logging.getLogger().handlers


@pytest.mark.parametrize(("form", "level"), [("xml", "info"), ("json", "loud")])
def test_another_format_or_level_is_a_usage_error(form: Any, level: str) -> None:
    with pytest.raises(UsageError, match="is no log"):
        logs.configure(form, level)


def test_warnings_are_logged() -> None:
    stream = lines_of("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in one_object(stream)["message"]
