"""What a handler can ask and send: collected, checked where it is said, and written only with its outcome."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pydantic
import pytest
from worker_parts import NOW_MS, task

from fairlane.consumer.context import Context, context, current
from fairlane.consumer.outcome import OutboxRecord
from fairlane.topics.errors import UsageError
from fairlane.topics.task import Task


def made(**fields: Any) -> Context:
    """A context whose tasks become records of their lane."""
    return Context(task(**fields), None, lambda each: OutboxRecord(each.lane, each.payload, each.key))


@dataclasses.dataclass
class Point:
    x: int


class Model(pydantic.BaseModel):
    x: int


class Call:
    """What `some_task.call(…)` returns, as a context sees it."""

    def to_task(self) -> Task:
        return task("mail", id="t-9", payload=b"[9]")


def test_what_is_sent_is_collected_in_order() -> None:
    ctx = made()
    assert ctx.enqueue(Call(), task("mail", id="t-10")) == ["t-9", "t-10"]
    ctx.emit("audit-log", b"x")
    assert [record.topic for record in ctx.outbox] == ["shop.p5", "shop.p5", "audit-log"]
    assert ctx.outbox[0].value == b"[9]"


def test_what_is_in_the_outbox_is_no_longer_the_handlers() -> None:
    ctx = made()
    ctx.emit("audit-log", 1)
    first = ctx.outbox
    ctx.emit("audit-log", 2)
    assert len(first) == 1


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"\x00raw", b"\x00raw"),  # bytes as they are
        (bytearray(b"raw"), b"raw"),
        (memoryview(b"raw"), b"raw"),
        (None, None),  # a tombstone
        ({"a": [1, None]}, b'{"a":[1,null]}'),  # anything else as JSON
        ("text", b'"text"'),
        (Point(1), b'{"x":1}'),
        (Model(x=1), b'{"x":1}'),
    ],
)
def test_a_value_is_bytes_or_json(value: Any, written: bytes | None) -> None:
    ctx = made()
    ctx.emit("audit-log", value)
    assert ctx.outbox[0].value == written


@pytest.mark.parametrize(("key", "written"), [("k", b"k"), (b"k", b"k"), (None, None), ("ü", "ü".encode())])
def test_a_key_is_text_or_bytes(key: Any, written: bytes | None) -> None:
    ctx = made()
    ctx.emit("audit-log", b"x", key=key)
    assert ctx.outbox[0].key == written


def test_headers_are_text_or_bytes() -> None:
    ctx = made()
    ctx.emit("audit-log", b"x", headers=[("a", "ü"), ("a", b"\xff")])
    assert ctx.outbox[0].headers == (("a", "ü".encode()), ("a", b"\xff"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"topic": ""},
        {"topic": "a b"},
        {"topic": "x" * 250},
        {"topic": None},
        {"topic": 5},
        {"value": object()},
        {"value": {"a": object()}},
        {"key": 5},
        {"key": "\ud800"},
        {"headers": [("a", 5)]},
        {"headers": [(5, "a")]},
        {"headers": [("\ud800", "a")]},
    ],
)
def test_what_kafka_cannot_take_is_refused_where_it_is_said(wrong: dict[str, Any]) -> None:
    """In the settlement it would be too late for the handler to say anything about it."""
    ctx = made()
    arguments: dict[str, Any] = {"topic": "audit-log", "value": b"x", **wrong}
    with pytest.raises(UsageError):
        ctx.emit(arguments.pop("topic"), arguments.pop("value"), **arguments)
    assert ctx.outbox == ()


def test_context_outside_of_a_handler_says_where_to_call_it() -> None:
    with pytest.raises(UsageError, match="from within a handler"):
        context()


def test_context_inside_is_that_of_the_attempt() -> None:
    ctx = made(attempt=3)
    token = current.set(ctx)
    try:
        assert context() is ctx
        assert (context().attempt, context().task.type) == (3, "send")
    finally:
        current.reset(token)


def test_its_log_names_the_task_in_every_line(caplog: pytest.LogCaptureFixture) -> None:
    ctx = made(attempt=2)
    with caplog.at_level(logging.INFO):
        ctx.log.info("sent %d", 3, extra={"to": "ada"})
    (record,) = caplog.records
    assert record.getMessage() == "sent 3"
    fields = vars(record)
    assert (fields["task_id"], fields["task_type"], fields["attempt"], fields["to"]) == ("t-1", "send", 2, "ada")


def test_a_context_says_until_when_there_is_time() -> None:
    assert Context(task(), NOW_MS / 1000, lambda _: OutboxRecord("x", b"")).deadline == NOW_MS / 1000
    assert made().deadline is None
