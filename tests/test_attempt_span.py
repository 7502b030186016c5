"""Whatever ends an attempt has a span that says so, and the outcome names it; on a real event loop, without Kafka."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from attempt_bench import Bench
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from span_recorder import Recorder, as_text, error_type, install
from worker_parts import NOW_MS, P5, delivery

from fairlane.consumer.attempt_span import with_span
from fairlane.consumer.context import context
from fairlane.consumer.outcome import Completed, Dead, Deferred, Expired, HandedBack, Outcome, Retrying, traceparent_of
from fairlane.consumer.signals import Reject, RetryLater
from fairlane.topics import tracing
from fairlane.topics.clock import now_ms

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-2] + "00"


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return install(monkeypatch, Recorder())


async def succeed() -> None: ...


async def fail() -> None:
    raise ConnectionError("the bank hung up")


async def reject() -> None:
    raise Reject("no such order")


async def wait() -> None:
    raise RetryLater(5, "not yet")


async def speak() -> str:
    return "x" * 100


async def count(number: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "task", "error", "outcome"),
    [
        (succeed, {}, None, Completed),
        (fail, {}, "ConnectionError", Retrying),
        (fail, {"attempt": 2}, "ConnectionError", Dead),
        (reject, {}, "Reject", Dead),
        # An attempt that asks for another one has not done its work either.
        (wait, {}, "RetryLater", Retrying),
        (speak, {}, "ResultTooLarge", Dead),
        # No handler ran, and the trace says why.
        (succeed, {"task_type": "unheard_of"}, "NoHandler", Retrying),
        (count, {"payload": b'{"number": "many"}'}, "InvalidPayload", Dead),
        (succeed, {"expires_ms": now_ms() - 1}, "TaskExpired", Expired),
    ],
)
def test_every_end_of_an_attempt_has_a_span_that_names_its_failure(
    sdk: Recorder, function: Callable[..., Any], task: dict[str, Any], error: str | None, outcome: type[Outcome]
) -> None:
    led_to = Bench(function, settings={"result_max_bytes": 50}).run(traceparent=SAMPLED, **task)
    span = sdk.one("process shop.p5")
    assert isinstance(led_to, outcome)
    assert error_type(span) == error
    assert (span.status.status_code is StatusCode.ERROR) == (error is not None)
    assert as_text(span.parent) == SAMPLED
    assert traceparent_of(led_to) == as_text(span.context)
    assert (span.attributes or {})["messaging.client.id"] == "w1"


def test_what_a_validator_raises_is_in_the_span_and_the_outcome_names_it(
    sdk: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(count)

    def broken(payload: bytes) -> Any:
        raise ZeroDivisionError

    handler = bench.attempts._handlers["send"]
    monkeypatch.setattr(type(handler.signature), "load", lambda self, payload: broken(payload))
    led_to = bench.run(traceparent=SAMPLED)
    span = sdk.one("process")
    assert (error_type(span), traceparent_of(led_to)) == ("ZeroDivisionError", as_text(span.context))


def test_an_attempt_that_a_shutdown_takes_away_has_not_failed(sdk: Recorder) -> None:
    begun = threading.Event()

    async def last() -> None:
        begun.set()
        await asyncio.Event().wait()

    led_to = Bench(last).disturb(begun, leaving=True)
    span = sdk.one("process")
    assert isinstance(led_to, HandedBack)
    assert (error_type(span), [event.name for event in span.events]) == (None, ["handed back"])
    assert traceparent_of(led_to) == as_text(span.context)


@pytest.mark.parametrize("function", [succeed, fail])
def test_an_unsampled_task_has_no_span_and_its_outcome_names_none(sdk: Recorder, function: Callable[..., Any]) -> None:
    led_to = Bench(function).run(traceparent=UNSAMPLED)
    assert (sdk.spans(), traceparent_of(led_to)) == ([], "")
    assert isinstance(led_to, Completed | Retrying)
    assert led_to.delivery.task.traceparent == UNSAMPLED


@pytest.mark.parametrize(
    ("function", "task"),
    [(succeed, {}), (fail, {}), (reject, {}), (succeed, {"expires_ms": 1}), (succeed, {"task_type": "unheard_of"})],
)
def test_a_trace_that_an_attempt_began_goes_on_in_whatever_comes_next(
    sdk: Recorder, function: Callable[..., Any], task: dict[str, Any]
) -> None:
    led_to = Bench(function).run(**task)
    own = as_text(sdk.one("process").context)
    assert isinstance(led_to, Completed | Retrying | Dead | Expired)
    assert led_to.delivery.task.traceparent == own
    assert led_to.delivery.task.own_trace
    if isinstance(led_to, Retrying):
        assert (led_to.task.traceparent, led_to.task.own_trace) == (own, True)


def test_what_only_moves_on_has_no_span() -> None:
    moved = Deferred(delivery(), NOW_MS)
    assert with_span(moved, tracing.UNTRACED) is moved
    assert traceparent_of(moved) == ""


def test_a_task_that_a_handler_enqueues_is_created_in_its_attempt(sdk: Recorder) -> None:
    async def order() -> None:
        context().enqueue(delivery(task_type="email").task)

    led_to = Bench(order).run(traceparent=SAMPLED)
    created, attempt = sdk.one("create shop.p5"), sdk.one("process")
    assert as_text(created.parent) == as_text(attempt.context)
    assert (created.attributes or {})["messaging.operation.type"] == "create"
    assert isinstance(led_to, Completed)
    assert ("traceparent", as_text(created.context).encode()) in led_to.outbox[0].headers


def in_the_loop() -> str:
    return as_text(trace.get_current_span().get_span_context())


async def on_the_loop() -> str:
    return in_the_loop()


@pytest.mark.parametrize("function", [in_the_loop, on_the_loop])
def test_the_span_is_current_in_the_handler_and_in_what_wraps_it(sdk: Recorder, function: Callable[..., Any]) -> None:
    seen: list[str] = []

    async def middleware(_: Any, call_next: Callable[[], Awaitable[Any]]) -> Any:
        seen.append(in_the_loop())
        seen.append(await call_next())
        return None

    Bench(function, middleware=[middleware]).run(traceparent=SAMPLED)
    assert seen == [as_text(sdk.one("process").context)] * 2


def test_a_delivery_is_named_by_its_place(sdk: Recorder) -> None:
    Bench(succeed).run(delivery(17, assigned=P5, traceparent=SAMPLED, attempt=2, replays=1))
    said = sdk.one("process").attributes or {}
    assert (said["messaging.destination.name"], said["messaging.destination.partition.id"]) == ("shop.p5", "0")
    assert (said["messaging.kafka.offset"], said["messaging.consumer.group.name"]) == (17, "fairlane-shop")
    assert (said["fairlane.task.attempt"], said["fairlane.task.replays"]) == (2, 1)
