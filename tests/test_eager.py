"""Eager mode: tasks at once, without Kafka, with all that a worker would make of them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import msgspec
import pytest

from fairlane import (
    BatchPolicy,
    Fairlane,
    Reject,
    ResultTimeout,
    RetryLater,
    RetryPolicy,
    Settings,
    TaskFailed,
    UsageError,
    context,
)
from fairlane.consumer.outcome import Completed, Dead, Expired, Retrying
from fairlane.testing import Runs, eager
from fairlane.topics.errors import PayloadError, ProducerClosed, TaskTooLarge, TaskUnknown

NO_JITTER = RetryPolicy(max_attempts=3, base_s=10, factor=2, jitter=0)


@dataclasses.dataclass
class Receipt:
    number: int


@pytest.fixture
def app() -> Fairlane:
    return Fairlane("shop", settings=Settings(queue_url="kafka://nowhere.invalid/shop"))


def test_a_task_runs_at_once_and_its_result_is_that_of_its_function(app: Fairlane) -> None:
    @app.task(priority=5)
    def charge(amount: int) -> Receipt:
        return Receipt(amount)

    with eager(app) as runs:
        handle = charge.enqueue(3)
        assert handle.result() == Receipt(3)
    [run] = runs
    assert (run.type, run.state, run.result, run.id) == ("charge", "completed", Receipt(3), handle.id)
    assert (run.task.priority, run.task.lane, run.task.payload) == (5, "shop.p5", b'{"amount":3}')
    assert [type(outcome) for outcome in run.outcomes] == [Completed]
    assert handle.status().state == "completed"


def test_async_handlers_run_too_from_sync_and_from_async_code(app: Fairlane) -> None:
    @app.task
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    with eager(app) as runs:
        assert add.enqueue(1, 2).result() == 3

    async def use() -> Runs:
        async with eager(app) as runs:
            here = asyncio.get_running_loop()
            handle = await add.aenqueue(2, 3)
            assert await handle.aresult() == 5
            assert (await handle.astatus()).state == "completed"
            assert add.enqueue(3, 4).result() == 7  # blocks this loop, and is no deadlock
            assert asyncio.get_running_loop() is here
        return runs

    assert [run.result for run in (*runs, *asyncio.run(use()))] == [3, 5, 7]


def test_retries_follow_at_once_and_the_waits_are_told(app: Fairlane) -> None:
    tried: list[int] = []

    @app.task(retry=NO_JITTER)
    def flaky() -> str:
        tried.append(context().attempt)
        if len(tried) < 3:
            raise OSError(f"try {len(tried)}")
        return "at last"

    began = time.monotonic()
    with eager(app) as runs:
        assert flaky.enqueue().result() == "at last"
    assert time.monotonic() - began < 10
    [run] = runs
    assert tried == [1, 2, 3]
    assert list(run.delays_s) == [10, 20]
    assert [type(outcome) for outcome in run.outcomes] == [Retrying, Retrying, Completed]
    assert [attempt.number for attempt in run.attempts] == [1, 2, 3]
    assert [str(error) for error in run.errors] == ["try 1", "try 2"]


def test_a_task_that_dies_says_why_with_the_exception_itself_as_the_cause(app: Fairlane) -> None:
    class Broken(Exception):
        pass

    @app.task(retry=NO_JITTER)
    async def broken() -> None:
        raise Broken("always")

    with eager(app) as runs:
        handle = broken.enqueue()
    run = runs[0]
    assert (run.state, run.reason, len(run.attempts)) == ("failed", "max_attempts", 3)
    for ask in (lambda: run.result, handle.result):
        with pytest.raises(TaskFailed, match="Broken: always") as caught:
            ask()
        assert isinstance(caught.value.__cause__, Broken)
    assert handle.status().error is not None


@pytest.mark.parametrize(
    ("raised", "reason", "delays_s"),
    [
        (Reject("no such address"), "rejected", ()),
        (RetryLater(90), "max_attempts", (90, 90)),
        (KeyError("x"), "fatal", ()),
    ],
)
def test_what_a_handler_raises_decides(
    app: Fairlane, raised: Exception, reason: str, delays_s: tuple[float, ...]
) -> None:
    @app.task(retry=RetryPolicy(max_attempts=3, fatal=(KeyError,)))
    def decide() -> None:
        raise raised

    with eager(app) as runs:
        decide.enqueue()
    assert (runs[0].reason, runs[0].delays_s, runs[0].errors[-1]) == (reason, delays_s, raised)


def test_failures_can_be_raised_where_the_task_is_enqueued(app: Fairlane) -> None:
    @app.task(retry=NO_JITTER)
    def broken() -> None:
        raise ValueError("always")

    with eager(app, raise_failures=True) as runs, pytest.raises(TaskFailed) as caught:
        broken.enqueue()
    assert isinstance(caught.value.__cause__, ValueError)
    assert len(runs) == 1


def test_options_count_as_in_production(app: Fairlane) -> None:
    seen: list[tuple[int, float | None]] = []

    @app.task(retry=NO_JITTER)
    def fail() -> None:
        seen.append((context().task.priority, context().deadline))
        raise ValueError

    with eager(app) as runs:
        fail.options(priority=1, max_attempts=1, delay_s=60, timeout_s=5, key="k", id="mine").enqueue()
    run = runs[0]
    assert (run.id, run.task.key, len(run.attempts)) == ("mine", b"k", 1)
    assert list(run.delays_s) == [pytest.approx(60, abs=1)]
    assert seen[0][0] == 1
    assert seen[0][1] == pytest.approx(time.time() + 5, abs=5)


def test_the_time_that_nobody_waits_counts_for_what_expires(app: Fairlane) -> None:
    @app.task(retry=RetryPolicy(max_attempts=9, base_s=40, factor=1, jitter=0))
    def fail() -> None:
        raise ValueError

    with eager(app) as runs:
        handle = fail.options(expires_s=100).enqueue()
    assert [type(outcome) for outcome in runs[0].outcomes] == [Retrying, Retrying, Retrying, Expired]
    assert (runs[0].state, runs[0].reason) == ("expired", "expired")
    with pytest.raises(TaskFailed, match="expired"):
        handle.result()


def test_a_timeout_is_a_failure(app: Fairlane) -> None:
    @app.task(timeout_s=0.05, retry=RetryPolicy(max_attempts=1))
    async def slow() -> None:
        await asyncio.sleep(30)

    @app.task(timeout_s=0.05, retry=RetryPolicy(max_attempts=1))
    def stubborn() -> None:
        ends_at = time.monotonic() + 30
        while time.monotonic() < ends_at:
            time.sleep(0.01)

    with eager(app) as runs:
        slow.enqueue()
        stubborn.enqueue()
    for run in runs:
        assert run.reason == "max_attempts"
        assert "longer than 0.05 s" in str(run.errors[-1])


def test_arguments_and_results_go_through_json_as_in_production(app: Fairlane) -> None:
    @app.task
    def take(things: list[int]) -> Any:
        things.append(1)
        return {"set": {1}} if len(things) == 1 else object()

    mine: list[int] = []
    with eager(app) as runs:
        assert take.enqueue(mine).result() == {"set": [1]}
        assert mine == []
        take.enqueue([5])
        with pytest.raises(PayloadError):
            take.call(things=object())
        with pytest.raises(TaskTooLarge):
            app.enqueue("big", b"x" * 1_100_000)
    assert len(runs) == 2
    assert isinstance(runs[1].outcomes[-1], Dead)
    assert "InvalidResult" in str(runs[1].outcomes[-1].error)


def test_what_a_handler_sends_with_its_outcome_runs_after_it_and_only_if_it_succeeds(app: Fairlane) -> None:
    order: list[str] = []

    @app.task
    def second(name: str) -> str:
        order.append(name)
        return name

    @app.task(retry=RetryPolicy(max_attempts=2, jitter=0))
    def first() -> None:
        context().enqueue(second.call("a"), second.options(delay_s=30, priority=5).call("b"))
        context().emit("orders", {"n": 1}, key="k")
        order.append("first")
        if context().attempt == 1:
            raise ValueError

    with eager(app) as runs:
        first.enqueue()
    assert order == ["first", "first", "a", "b"]
    assert [run.type for run in runs] == ["first", "second", "second"]
    assert [run.result for run in runs[0].enqueued] == ["a", "b"]
    assert runs[0].enqueued[1].task.lane == "shop.p5"
    assert list(runs[0].enqueued[1].delays_s) == [pytest.approx(30, abs=1)]
    [emitted] = runs[0].emitted
    assert (emitted.topic, emitted.value, emitted.key) == ("orders", b'{"n":1}', b"k")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_may_enqueue_and_wait_for_the_result(app: Fairlane, is_async: bool) -> None:
    @app.task
    async def inner_async(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    @app.task
    def inner(n: int) -> int:
        return n + inner_async.enqueue(n).result()

    if is_async:

        @app.task
        async def outer(n: int) -> int:
            return inner.enqueue(n).result() + await (await inner_async.aenqueue(n)).aresult()
    else:

        @app.task
        def outer(n: int) -> int:
            return inner.enqueue(n).result() + inner_async.enqueue(n).result()

    with eager(app) as runs:
        assert outer.enqueue(1).result() == 3 + 2
    assert [run.type for run in runs[0].enqueued] == ["inner", "inner_async"]
    assert [run.type for run in runs[1].enqueued] == ["inner_async"]


def test_a_task_that_enqueues_itself_for_ever_is_stopped(app: Fairlane) -> None:
    @app.task(retry=RetryPolicy(max_attempts=1))
    def again() -> None:
        again.enqueue()

    @app.task(retry=RetryPolicy(max_attempts=1))
    def later() -> None:
        context().enqueue(later.options(delay_s=60).call())

    with eager(app, max_runs=30) as runs:
        again.enqueue()
        assert "context().enqueue" in str(runs[-1].errors[-1])
        with pytest.raises(UsageError, match="30 tasks were enqueued"):
            later.enqueue()


def test_a_task_of_somebody_else_is_told_and_not_run(app: Fairlane) -> None:
    with eager(app) as runs:
        handle = app.enqueue("elsewhere", {"a": 1}, priority=2)
        with pytest.raises(ResultTimeout):
            handle.result(5)
        with pytest.raises(TaskUnknown):
            app.handle("nobody").status()
        assert app.handle(handle.id).status().state == "pending"
    assert (runs[0].state, runs[0].attempts, runs[0].task.payload) == ("pending", [], b'{"a":1}')
    assert runs.of("elsewhere") == [runs[0]]
    assert "pending after 0 attempts" in repr(runs[0])


def test_a_payload_by_name_that_does_not_fit_an_older_handler_is_dead(app: Fairlane) -> None:
    @app.task
    def take(a: int) -> None: ...

    with eager(app) as runs:
        broken = msgspec.structs.replace(take.call(1), payload=b'{"b": 1}')
        app.enqueue_many([broken])
    assert runs[0].reason == "invalid_payload"


def test_many_run_in_order(app: Fairlane) -> None:
    @app.task
    def double(n: int) -> int:
        return 2 * n

    with eager(app) as runs:
        handles = app.enqueue_many([double.call(1), double.options(priority=5).call(2)])
        assert [handle.result() for handle in handles] == [2, 4]
        assert [h.offset for h in asyncio.run(app.aenqueue_many([double.call(3)]))] == [2]
    assert [run.result for run in runs] == [2, 4, 6]


def test_def_handlers_run_on_the_thread_that_enqueues_with_what_is_set_there(app: Fairlane) -> None:
    database = sqlite3.connect(":memory:")
    tenant: ContextVar[str] = ContextVar("tenant")

    @app.task
    def store() -> str:
        database.execute("create table t (x)")
        return f"{threading.current_thread().name} {tenant.get()}"

    @app.task
    async def who() -> str:
        return tenant.get()

    tenant.set("acme")
    with eager(app):
        assert store.enqueue().result() == f"{threading.current_thread().name} acme"
        assert who.enqueue().result() == "acme"
    database.close()


def test_a_def_handler_may_use_an_event_loop_of_its_own(app: Fairlane) -> None:
    async def three() -> int:
        return 3

    @app.task
    def run_a_loop() -> int:
        return asyncio.run(three())

    with eager(app):
        assert run_a_loop.enqueue().result() == 3

    async def use() -> int:
        async with eager(app):
            return (await run_a_loop.aenqueue()).result()

    assert asyncio.run(use()) == 3


def test_the_lifespan_is_open_on_the_loop_of_the_handlers_and_middleware_wraps() -> None:
    told: list[str] = []
    loops: dict[str, asyncio.AbstractEventLoop] = {}

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        loops["lifespan"] = asyncio.get_running_loop()
        task = asyncio.current_task()
        told.append("open")
        yield
        assert asyncio.current_task() is task
        told.append("closed")

    async def middleware(context: Any, call_next: Callable[[], Awaitable[Any]]) -> Any:
        told.append(f"before {context.task.type}")
        return f"wrapped {await call_next()}"

    app = Fairlane("shop", lifespan=lifespan, middleware=[middleware])

    @app.task
    async def work() -> str:
        loops["handler"] = asyncio.get_running_loop()
        return "work"

    with eager(app):
        assert work.enqueue().result() == "wrapped work"
        assert loops["lifespan"] is loops["handler"]

    async def use() -> None:
        async with eager(app):
            assert await (await work.aenqueue()).aresult() == "wrapped work"
            assert loops["lifespan"] is loops["handler"] is asyncio.get_running_loop()

    asyncio.run(use())
    assert told == ["open", "before work", "closed"] * 2


def test_a_lifespan_that_fails_to_open_fails_the_block() -> None:
    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        if databases == 0:
            raise OSError("no database")
        yield

    databases = 0
    app = Fairlane("shop", lifespan=lifespan)
    with pytest.raises(OSError, match="no database"), eager(app):
        pytest.fail("it was not to be entered")
    with eager(Fairlane("shop")):
        pass


def test_after_the_block_the_app_is_as_it_was(app: Fairlane) -> None:
    @app.task
    def work() -> int:
        return 1

    before = threading.active_count()
    with eager(app) as outer:
        work.enqueue()
        with eager(app) as inner:
            work.enqueue()
        work.enqueue()
    assert (len(outer), len(inner)) == (2, 1)
    assert threading.active_count() == before
    app.close()
    with pytest.raises(ProducerClosed):
        work.enqueue()


def test_a_task_of_a_batch_handler_runs_in_a_batch_of_one(app: Fairlane) -> None:
    @app.task(batch=BatchPolicy(max_size=3))
    def square(numbers: list[int]) -> list[int]:
        return [number * number for number in numbers]

    with eager(app):
        handle = square.enqueue(3)
        assert handle.result() == 9
        assert square.options(priority=5).enqueue(4).result() == 16
        assert app.enqueue("square", 5).result() == 25
    assert square([1, 2]) == [1, 4]
    with pytest.raises(PayloadError):
        square.enqueue("three")  # type: ignore[arg-type]
    with pytest.raises(PayloadError):
        app.enqueue("square", [3])


def test_tasks_that_are_enqueued_together_run_in_batches_and_each_ends_for_itself(app: Fairlane) -> None:
    seen = []

    @app.task(batch=BatchPolicy(max_size=3), retry=NO_JITTER)
    async def index(numbers: list[int]) -> list[int | Exception]:
        seen.append(numbers)
        for number, one in zip(numbers, context().each, strict=True):
            one.enqueue(done.call(number))
        return [OSError(number) if number == 2 else number for number in numbers]

    @app.task
    def done(number: int) -> None: ...

    with eager(app) as runs:
        calls = [index.call(number) for number in range(5)]
        handles = app.enqueue_many([*calls, done.call(9), index.call(6)])
        assert [handles[place].result() for place in (0, 1, 3, 4, 6)] == [0, 1, 3, 4, 6]
    assert seen == [[0, 1, 2], [2], [2], [3, 4], [6]]
    indexed = [run for run in runs if run.type == "index"]
    assert [run.state for run in indexed] == ["completed"] * 2 + ["failed"] + ["completed"] * 3
    assert [type(error) for error in indexed[2].errors] == [OSError] * 3
    assert list(indexed[2].delays_s) == [10, 20]
    assert [[sent.type for sent in run.enqueued] for run in indexed] == [["done"], ["done"], [], *[["done"]] * 3]


def test_a_batch_that_raises_fails_each_of_its_tasks_with_that_very_error(app: Fairlane) -> None:
    @app.task(batch=BatchPolicy(), retry=RetryPolicy(max_attempts=1))
    async def index(numbers: list[int]) -> None:
        raise ValueError(len(numbers))

    async def use() -> Runs:
        async with eager(app) as runs:
            await app.aenqueue_many([index.call(1), index.call(2)])
        return runs

    runs = asyncio.run(use())
    assert [run.reason for run in runs] == ["max_attempts"] * 2
    assert [str(error) for run in runs for error in run.errors] == ["2", "2"]
