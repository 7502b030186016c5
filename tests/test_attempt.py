"""One attempt: whatever a handler does, it ends in one outcome; on a real event loop, without Kafka."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pydantic
import pytest
from attempt_bench import Bench
from worker_parts import NOW_MS, delivery

from fairlane.consumer.context import context
from fairlane.consumer.handlers import Middleware
from fairlane.consumer.outcome import Completed, Dead, Expired, HandedBack, Outcome, Retrying
from fairlane.topics import tracing
from fairlane.topics.clock import now_ms


def completed(outcome: Outcome) -> Completed:
    assert isinstance(outcome, Completed), outcome
    return outcome


def error_of(outcome: Outcome) -> str:
    """The class of the error that the attempt failed with."""
    assert isinstance(outcome, Retrying | Dead), outcome
    assert outcome.error is not None
    return outcome.error.type


# What it returned.


async def add(a: int, b: int = 1) -> int:
    return a + b


def add_on_a_thread(a: int, b: int = 1) -> int:
    return a + b


@pytest.mark.parametrize("function", [add, add_on_a_thread])
def test_a_handler_gets_its_payload_and_its_result_is_json(function: Callable[..., Any]) -> None:
    outcome = completed(Bench(function).run(payload=b'{"a": 1, "b": 2}'))
    assert outcome.result == b"3"
    assert outcome.started_ms <= outcome.finished_ms


@pytest.mark.parametrize("size", [10, 11])
def test_a_result_that_is_too_large_is_dead_with_what_it_sent(size: int) -> None:
    async def speak() -> str:
        context().emit("audit-log", b"x")
        return "x" * (size - 2)

    outcome = Bench(speak, settings={"result_max_bytes": 10}).run()
    if size == 10:
        assert len(completed(outcome).outbox) == 1
    else:
        assert isinstance(outcome, Dead)
        assert outcome.reason == "result_too_large"
        assert outcome.error is not None
        assert "11 bytes" in outcome.error.message


async def unspeakable() -> object:
    return object()


def test_a_result_that_is_no_json_is_a_failure_like_any_other() -> None:
    """It may be the fault of what the handler was given this time; its policy says whether to try again."""
    assert error_of(Bench(unspeakable).run()) == "InvalidResult"
    assert isinstance(Bench(unspeakable).run(), Retrying)
    assert isinstance(Bench(unspeakable).run(attempt=2), Dead)


def test_what_a_handler_sends_is_part_of_its_outcome_only_if_it_succeeds() -> None:
    async def send_and_fail(fail: bool) -> None:
        context().emit("audit-log", {"n": 1}, key="k")
        if fail:
            raise OSError

    outcome = completed(Bench(send_and_fail).run(payload=b'{"fail": false}'))
    assert [(record.topic, record.value, record.key) for record in outcome.outbox] == [("audit-log", b'{"n":1}', b"k")]
    assert isinstance(Bench(send_and_fail).run(payload=b'{"fail": true}'), Retrying)


def test_a_task_that_a_handler_sends_without_a_lane_goes_to_the_one_of_its_priority() -> None:
    async def send_on() -> None:
        context().enqueue(delivery(priority=2, lane="", payload=b"[1]", value=b"").task)

    (record,) = completed(Bench(send_on).run()).outbox
    assert (record.topic, record.value) == ("shop.p2", b"[1]")
    assert dict(record.headers)["fairlane-lane"] == b"shop.p2"


def test_a_task_that_is_sent_again_is_its_payload_whatever_form_its_record_had() -> None:
    async def send_again() -> None:
        context().enqueue(context().task)

    (record,) = completed(Bench(send_again).run()).outbox
    assert record.value == b"{}", "not the bare JSON that its type stood in"
    assert dict(record.headers)["ce_type"] == b"send"


# Whether it runs at all.


async def never() -> None:
    raise AssertionError("it ran")


def test_a_task_that_expired_is_not_started() -> None:
    assert isinstance(Bench(never).run(expires_ms=now_ms() - 1), Expired)


def test_a_task_of_a_type_that_nobody_knows_waits_for_a_newer_worker() -> None:
    outcome = Bench(never).run(task_type="other")
    assert isinstance(outcome, Retrying)
    assert (error_of(outcome), outcome.task.attempt) == ("NoHandler", 1)


def test_a_payload_that_does_not_fit_is_dead_or_waits_as_the_handler_says() -> None:
    outcome = Bench(add).run(payload=b'{"a": "x"}')
    assert isinstance(outcome, Dead)
    assert outcome.reason == "invalid_payload"
    waiting = Bench(add, on_invalid="retry").run(payload=b'{"a": "x"}')
    assert isinstance(waiting, Retrying)
    assert waiting.task.attempt == 1


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Picky(pydantic.BaseModel):
    x: int

    @pydantic.model_validator(mode="after")
    def look_it_up(self) -> Picky:
        raise ConnectionError("the directory does not answer")


def test_what_a_validator_raises_on_its_own_is_a_failure_of_the_attempt() -> None:
    """It came out of the payload's reading, before the handler: its slot and its record must not be lost."""

    async def handle(picky: Picky) -> None: ...

    outcome = Bench(handle).run(payload=b'{"x": 1}')
    assert isinstance(outcome, Retrying)
    assert (error_of(outcome), outcome.task.attempt) == ("ConnectionError", 2)


def test_a_failure_around_the_handler_has_an_outcome_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a span processor of somebody's")

    monkeypatch.setattr(tracing, "process", broken)
    assert error_of(Bench(never).run(traceparent=TRACE)) == "RuntimeError"


def test_a_failure_around_a_handler_that_is_through_changes_nothing_about_what_it_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(tracing.Processing):
        def __exit__(self, *_: Any) -> None:
            raise RuntimeError("a span processor of somebody's")

    monkeypatch.setattr(tracing, "process", lambda *_, **__: Broken(None, None, None))
    assert completed(Bench(add).run(payload=b'{"a": 1}', traceparent=TRACE)).result == b"2"


# How it may fail.


@pytest.mark.parametrize(
    "error", [OSError(), SystemExit(1), KeyboardInterrupt(), GeneratorExit(), StopIteration(), asyncio.CancelledError()]
)
@pytest.mark.parametrize("kind", ["async", "def"])
def test_whatever_a_handler_raises_is_its_failure_and_goes_no_further(error: BaseException, kind: str) -> None:
    async def fail() -> None:
        raise error

    def fail_on_a_thread() -> None:
        raise error

    outcome = Bench(fail if kind == "async" else fail_on_a_thread).run()
    assert isinstance(outcome, Retrying)
    # Python makes a StopIteration that leaves a coroutine a RuntimeError.
    renamed = kind == "async" and isinstance(error, StopIteration)
    assert error_of(outcome) == ("RuntimeError" if renamed else type(error).__name__)


# When its time is up.


def test_an_async_handler_is_cut_off_when_its_time_is_up() -> None:
    async def sleep_long() -> None:
        await asyncio.sleep(30)

    assert error_of(Bench(sleep_long, timeout_s=0.02).run()) == "AttemptTimeout"


def test_a_def_handler_in_a_loop_is_interrupted_when_its_time_is_up() -> None:
    seen: list[bool] = []

    def turn() -> None:
        ctx = context()
        try:
            while True:
                time.sleep(0.001)
        finally:
            seen.append(ctx.cancelled)

    assert error_of(Bench(turn, timeout_s=0.05).run()) == "AttemptTimeout"
    assert seen == [True]


def test_the_limit_of_the_task_comes_before_that_of_its_handler() -> None:
    async def sleep_long() -> None:
        await asyncio.sleep(30)

    outcome = Bench(sleep_long, timeout_s=30).run(timeout_ms=20)
    assert isinstance(outcome, Retrying)
    assert outcome.error is not None
    assert "0.02 s" in outcome.error.message


def test_a_handler_knows_until_when_it_has_time() -> None:
    async def deadline() -> float | None:
        return context().deadline

    outcome = completed(Bench(deadline, timeout_s=30).run())
    assert float(outcome.result) == pytest.approx(outcome.started_ms / 1000 + 30)
    assert completed(Bench(deadline).run()).result == b"null"


@pytest.mark.parametrize("timeout_s", [None, 30])
def test_a_timeout_error_of_the_handlers_own_is_not_ours(timeout_s: float | None) -> None:
    async def ask() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(30)

    assert error_of(Bench(ask, timeout_s=timeout_s).run()) == "TimeoutError"


def test_a_handler_that_makes_something_of_its_time_being_up_has_completed() -> None:
    async def partial() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "partial"
        return "whole"

    assert completed(Bench(partial, timeout_s=0.02).run()).result == b'"partial"'


# When the worker leaves.


class Disturbed:
    """Handlers that say when they have begun, each with its own answer to a cancellation."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    async def let_go(self) -> None:
        self.begun.set()
        await asyncio.sleep(30)

    async def convert(self) -> None:
        self.begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            raise ConnectionError("my connection was cut") from None

    async def finish(self) -> str:
        self.begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "just in time"
        return "whole"

    def turn(self) -> None:
        self.begun.set()
        while True:
            time.sleep(0.001)

    def convert_on_a_thread(self) -> None:
        self.begun.set()
        try:
            while True:
                time.sleep(0.001)
        except BaseException:  # noqa: BLE001
            raise ConnectionError("my connection was cut") from None


@pytest.mark.parametrize("name", ["let_go", "convert", "turn", "convert_on_a_thread"])
def test_what_a_shutdown_takes_from_its_handler_is_handed_back_whatever_the_handler_makes_of_it(name: str) -> None:
    """A redeploy costs no attempt."""
    disturbed = Disturbed()
    outcome = Bench(getattr(disturbed, name)).disturb(disturbed.begun, leaving=True)
    assert isinstance(outcome, HandedBack)


def test_what_a_handler_finishes_when_it_is_cut_off_is_completed() -> None:
    disturbed = Disturbed()
    outcome = Bench(disturbed.finish).disturb(disturbed.begun, leaving=True)
    assert completed(outcome).result == b'"just in time"'


@pytest.mark.parametrize("name", ["let_go", "turn"])
def test_a_cancellation_that_is_no_shutdown_is_a_failure(name: str) -> None:
    disturbed = Disturbed()
    outcome = Bench(getattr(disturbed, name)).disturb(disturbed.begun, leaving=False)
    assert error_of(outcome) == "CancelledError"


def test_a_failure_of_its_own_during_a_shutdown_is_a_failure() -> None:
    async def fail() -> None:
        raise OSError

    bench = Bench(fail)
    bench.attempts.leaving = True
    assert isinstance(bench.run(), Retrying)


# What is around it.


def test_middleware_is_around_every_attempt_the_first_outermost_and_sees_the_context() -> None:
    order: list[str] = []

    def named(name: str) -> Middleware:
        async def wrap(ctx: Any, call_next: Callable[[], Awaitable[Any]]) -> Any:
            order.append(f"{name} before {ctx.task.type}")
            result = await call_next()
            order.append(f"{name} after")
            return result + 1

        return wrap

    outcome = Bench(add, middleware=[named("outer"), named("inner")]).run(payload=b'{"a": 1}')
    assert completed(outcome).result == b"4"
    assert order == ["outer before send", "inner before send", "inner after", "outer after"]


def test_what_middleware_raises_is_a_failure_of_the_attempt() -> None:
    async def refuse(ctx: Any, call_next: Callable[[], Awaitable[Any]]) -> Any:
        raise PermissionError

    assert error_of(Bench(never, middleware=[refuse]).run()) == "PermissionError"


def test_a_context_ends_with_its_attempt() -> None:
    async def main() -> None:
        bench = Bench(add)
        await bench.attempts.run(delivery(payload=b'{"a": 1}'))
        with pytest.raises(Exception, match="no task running"):
            context()

    asyncio.run(main())


def test_attempts_at_once_have_a_context_each() -> None:
    async def who() -> str:
        mine = context().task.id
        await asyncio.sleep(0.001)
        assert context().task.id == mine
        return mine

    async def main() -> list[Outcome]:
        bench = Bench(who)
        return await asyncio.gather(*[bench.attempts.run(delivery(offset)) for offset in range(20)])

    results = [completed(outcome).result for outcome in asyncio.run(main())]
    assert results == [b'"t-%d"' % offset for offset in range(20)]


def test_times_of_an_outcome_are_those_of_the_attempt() -> None:
    outcome = completed(Bench(add).run(payload=b'{"a": 1}'))
    assert NOW_MS < outcome.started_ms <= outcome.finished_ms <= now_ms()
