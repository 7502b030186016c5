"""The executor: what it starts, how it drains, and that a bug on its loop ends the worker; on a real event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from worker_parts import P5, config, delivery

from fairlane.consumer.adaptive import Adaptive
from fairlane.consumer.attempt import Attempts
from fairlane.consumer.context import context
from fairlane.consumer.delivery import Assigned
from fairlane.consumer.executor import Executor
from fairlane.consumer.feed import Feed
from fairlane.consumer.handlers import Handler
from fairlane.consumer.meter import Meter
from fairlane.consumer.outcome import Completed, HandedBack, Outcome, Retrying, size_of
from fairlane.consumer.threads import Threads
from fairlane.consumer.to_settler import RecordLosses
from fairlane.topics.clock import now_ms
from fairlane.topics.payload import Signature


class Recorder:
    """Stands where the settler does: commits losses at once, and keeps the outcomes as long as it is told to."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.backlog = 0
        self.backlog_bytes = 0
        self.changed = asyncio.Event()

    def post(self, *messages: Any) -> None:
        for each in messages:
            if isinstance(each, RecordLosses):
                each.done()
            else:
                self.outcomes.append(each)
        self.changed.set()


class Bench:
    """An executor with its feed, of one handler."""

    def __init__(self, function: Callable[..., Any], *, limit: int | Adaptive | None = None, **settings: Any) -> None:
        made = config(**{"start_wait_s": 0, **settings})
        handlers = {"send": Handler("send", function, Signature.of(function, task_type="send"), concurrency=limit)}
        self.settler = Recorder()
        self.crashes: list[BaseException] = []
        self.threads = Threads()
        self.meter = Meter(made.concurrency, handlers)
        settler = cast("Any", self.settler)
        self.feed = Feed(made, handlers, settler, lambda: self.executor.wake())
        attempts = Attempts(made, handlers, (), self.threads)
        self.executor = Executor(made, self.feed, attempts, settler, self.meter, on_crash=self.crashes.append)

    async def begin(self) -> None:
        self.executor.start()
        self.feed.take_over(P5, None, 0)

    async def settled(self, count: int) -> list[Outcome]:
        """Wait for so many outcomes."""
        async with asyncio.timeout(90):
            while len(self.settler.outcomes) < count:
                self.settler.changed.clear()
                await self.settler.changed.wait()
        return self.settler.outcomes


def run(function: Callable[..., Any], body: Callable[[Bench], Awaitable[None]], **settings: Any) -> None:
    async def main() -> None:
        bench = Bench(function, **settings)
        try:
            await bench.begin()
            async with asyncio.timeout(90):
                await body(bench)
        finally:
            bench.threads.close()

    asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    """Wait for what has no event; the test's own timeout bounds it."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def offsets(outcomes: list[Outcome]) -> list[int]:
    return [cast("Any", outcome).delivery.offset for outcome in outcomes]


async def nothing() -> None: ...


def nothing_on_a_thread() -> None: ...


@pytest.mark.parametrize("function", [nothing, nothing_on_a_thread])
def test_what_is_read_is_run_and_its_outcome_given_to_the_settler(function: Callable[..., Any]) -> None:
    async def body(bench: Bench) -> None:
        bench.feed.post([delivery(offset) for offset in range(50)])
        outcomes = await bench.settled(50)
        assert sorted(offsets(outcomes)) == list(range(50))
        assert all(isinstance(outcome, Completed) for outcome in outcomes)
        assert bench.executor.running == {}
        assert bench.feed.running == 0
        assert bench.meter.counters.completed == 50

    run(function, body)


class Crowded:
    """A handler that takes 5 ms while no more than so many run, and longer in proportion beyond that."""

    def __init__(self, bears: int) -> None:
        self.bears = bears
        self.now = self.most = 0

    async def send(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.005 * max(1.0, self.now / self.bears))
        self.now -= 1


@pytest.mark.parametrize(
    ("limit", "settings"),
    [(Adaptive(min=2, max=100), {"concurrency": 200}), (None, {"concurrency": 100, "adaptive_min": 2})],
)
def test_a_concurrency_that_adapts_stays_near_what_the_handler_bears(
    limit: Adaptive | None, settings: dict[str, Any]
) -> None:
    crowd = Crowded(bears=6)

    async def body(bench: Bench) -> None:
        assert bench.feed.limits == {"send": 2}
        bench.feed.post([delivery(offset) for offset in range(4_000)])
        await bench.settled(3_000)
        assert crowd.most > 2, "it grew"
        crowd.most = 0
        await bench.settled(4_000)
        # A handler that does not slow down reaches 100. How near it comes, test_adaptive.py says on virtual time.
        assert bench.feed.limits["send"] < 100
        assert crowd.most < 100
        assert bench.crashes == []

    run(crowd.send, body, limit=limit, **settings)


def test_refusals_of_the_handler_hold_the_concurrency_down_and_other_failures_do_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    raised: list[type[Exception]] = [ValueError]

    async def refused() -> None:
        await asyncio.sleep(0.001)
        raise raised[-1]

    async def body(bench: Bench) -> None:
        bench.feed.post([delivery(offset) for offset in range(200)])
        outcomes = await bench.settled(200)
        assert not any(cast("Any", outcome).overloaded for outcome in outcomes)
        assert bench.feed.limits == {"send": 4}, "what fails says nothing of its time"
        raised.append(ConnectionResetError)
        bench.feed.post([delivery(offset) for offset in range(200, 400)])
        outcomes = await bench.settled(400)
        assert all(cast("Any", outcome).overloaded for outcome in outcomes[210:])

    caplog.set_level(logging.DEBUG, "fairlane.adaptive")
    run(refused, body, limit=Adaptive(min=4, max=8), concurrency=8)
    assert "at once, before" not in caplog.text


def test_a_limit_that_moves_is_logged_with_its_reason_as_news_where_it_is_some(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def waits() -> None:
        await asyncio.sleep(0.002)

    async def body(bench: Bench) -> None:
        bench.feed.post([delivery(offset) for offset in range(2_000)])
        await bench.settled(2_000)

    caplog.set_level(logging.DEBUG, "fairlane.adaptive")
    run(waits, body, limit=Adaptive(min=1, max=64), concurrency=8)
    records = [record for record in caplog.records if record.name == "fairlane.adaptive"]
    assert "send may run up to 64 at once, and this worker runs 8" in records[0].getMessage()
    moves = [record for record in records if "at once, before" in record.getMessage()]
    assert moves[0].getMessage().startswith("send: 2 at once, before 1: attempts take ")
    assert [record.levelno for record in moves[:2]] == [logging.INFO, logging.DEBUG]


def test_as_many_run_at_once_as_the_worker_may_and_no_more() -> None:
    now = most = 0

    async def count() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1

    async def body(bench: Bench) -> None:
        bench.feed.post([delivery(offset) for offset in range(30)])
        await bench.settled(30)
        assert most == 3

    run(count, body, concurrency=3)


def test_a_task_that_waits_for_its_time_starts_then_and_not_before() -> None:
    started: list[int] = []

    async def note() -> None:
        started.append(now_ms())

    async def body(bench: Bench) -> None:
        due_ms = now_ms() + 60
        bench.feed.post([delivery(1, not_before_ms=due_ms)])
        await bench.settled(1)
        assert started[0] >= due_ms

    run(note, body)


@pytest.mark.parametrize("what", ["backlog", "backlog_bytes"])
def test_nothing_starts_while_too_much_waits_to_be_settled(what: str) -> None:
    async def body(bench: Bench) -> None:
        setattr(bench.settler, what, 100)
        bench.feed.post([delivery(1)])
        for _ in range(5):
            await asyncio.sleep(0.02)
            assert bench.settler.outcomes == []
        setattr(bench.settler, what, 99)
        await bench.settled(1)

    run(nothing, body, unsettled_max=100, buffer_bytes=100)


def test_an_outcome_is_counted_with_all_that_it_holds() -> None:
    async def result() -> str:
        return "x" * 1_000

    async def body(bench: Bench) -> None:
        bench.feed.post([delivery(1)])
        (outcome,) = await bench.settled(1)
        assert size_of(outcome) == delivery(1).size_bytes + 1_002

    run(result, body)


def test_a_drain_starts_nothing_more_and_waits_for_what_runs() -> None:
    release = asyncio.Event()
    begun: list[int] = []

    async def wait() -> None:
        begun.append(1)
        await release.wait()

    async def body(bench: Bench) -> None:
        bench.feed.post([delivery(1), delivery(2)])
        await until(lambda: begun)
        bench.feed.post([delivery(3)])
        draining = asyncio.ensure_future(bench.executor.drain(10))
        await asyncio.sleep(0.01)
        assert not draining.done()
        release.set()
        assert await draining
        assert offsets(bench.settler.outcomes) == [1]
        assert bench.feed.waiting == 2

    run(wait, body, concurrency=1)


def test_a_drain_of_nothing_is_over_at_once_even_without_a_grace() -> None:
    async def body(bench: Bench) -> None:
        assert await bench.executor.drain(0)

    run(nothing, body)


def test_what_does_not_end_within_the_grace_is_handed_back() -> None:
    async def sleep_long() -> None:
        await asyncio.sleep(30)

    async def body(bench: Bench) -> None:
        bench.feed.post([delivery(1), delivery(2)])
        await until(lambda: len(bench.executor.running) == 2)
        assert not await bench.executor.drain(0.01)
        assert await bench.executor.hand_back(5)
        assert [type(outcome) for outcome in bench.settler.outcomes] == [HandedBack, HandedBack]
        assert bench.feed.running == 0

    run(sleep_long, body)


def test_a_thread_in_a_loop_is_handed_back_too() -> None:
    def turn() -> None:
        while True:
            time.sleep(0.001)

    async def body(bench: Bench) -> None:
        bench.feed.post([delivery(1)])
        await until(lambda: bench.executor.running)
        assert [running.delivery.offset for running in bench.executor.running.values()] == [1]
        assert not await bench.executor.drain(0.02)
        assert await bench.executor.hand_back(5)
        assert [type(outcome) for outcome in bench.settler.outcomes] == [HandedBack]

    run(turn, body)


def test_what_lets_nothing_take_it_away_is_left_and_said() -> None:
    stay = True

    async def stubborn() -> None:
        while stay:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                continue

    async def body(bench: Bench) -> None:
        nonlocal stay
        bench.feed.post([delivery(1)])
        await until(lambda: bench.executor.running)
        assert not await bench.executor.hand_back(0.02)
        assert bench.settler.outcomes == [], "its record is not settled, so it is run again elsewhere"
        stay = False
        assert await bench.executor.hand_back(5)

    run(stubborn, body)


def test_a_revocation_is_worked_through_while_the_worker_drains() -> None:
    async def body(bench: Bench) -> None:
        bench.feed.post([delivery(1)])
        await bench.settled(1)
        await bench.executor.drain(1)
        assert await asyncio.to_thread(bench.feed.revoke, [P5], 10)

    run(nothing, body)


def test_a_bug_in_the_feed_ends_the_worker_instead_of_leaving_it_idle() -> None:
    async def body(bench: Bench) -> None:
        def broken(_now_ms: int) -> None:
            raise ZeroDivisionError

        bench.feed.refresh = broken  # type: ignore[assignment, method-assign]
        bench.executor.wake()
        await until(lambda: bench.crashes)
        assert isinstance(bench.crashes[0], ZeroDivisionError)

    run(nothing, body)


def test_a_bug_at_the_end_of_an_attempt_ends_the_worker_and_frees_the_slot() -> None:
    async def body(bench: Bench) -> None:
        def broken(*_: Any) -> None:
            raise ZeroDivisionError

        bench.feed.done = broken  # type: ignore[assignment, method-assign]
        bench.feed.post([delivery(1)])
        await bench.settled(1)
        await until(lambda: bench.crashes)
        assert await bench.executor.drain(5)

    run(nothing, body)


async def refuse() -> None:
    raise OSError


def refuse_on_a_thread() -> None:
    raise OSError


@pytest.mark.parametrize("function", [refuse, refuse_on_a_thread])
def test_a_log_filter_of_the_users_that_raises_holds_nothing_up(function: Callable[..., Any]) -> None:
    def broken(_record: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    async def body(bench: Bench) -> None:
        logger = logging.getLogger("fairlane.executor")
        logger.addFilter(broken)
        try:
            bench.feed.post([delivery(1), delivery(2)])
            outcomes = await bench.settled(2)
            assert all(isinstance(outcome, Retrying) for outcome in outcomes)
            assert await bench.executor.drain(5)
        finally:
            logger.removeFilter(broken)

    run(function, body, concurrency=1)


def test_waking_from_many_threads_loses_no_task() -> None:
    async def body(bench: Bench) -> None:
        def post(first: int) -> None:
            for offset in range(first, first + 250):
                bench.feed.post([delivery(offset)])

        await asyncio.gather(*[asyncio.to_thread(post, first) for first in range(0, 1_000, 250)])
        outcomes = await bench.settled(1_000)
        assert sorted(offsets(outcomes)) == list(range(1_000))

    run(nothing, body)


def test_waking_a_worker_whose_loop_is_closed_is_nothing() -> None:
    benches: list[Bench] = []

    async def body(bench: Bench) -> None:
        benches.append(bench)

    run(nothing, body)
    benches[0].executor.wake()


def test_threads_go_on_by_themselves_in_the_order_of_the_lanes_and_with_their_limits() -> None:
    """What has ended on a thread is handed on there, and what is next starts there, while the loop looks elsewhere."""
    began: list[str] = []
    now = most = 0
    lock = threading.Lock()

    def count() -> None:
        nonlocal now, most
        with lock:
            began.append(context().task.lane)
            now += 1
            most = max(most, now)
        with lock:
            now -= 1

    async def body(bench: Bench) -> None:
        low = [delivery(offset, lane="shop.p1", priority=1) for offset in range(200)]
        high = [delivery(offset, lane="shop.p5") for offset in range(200, 400)]
        bench.feed.post(low)
        bench.feed.post(high)
        outcomes = await bench.settled(400)
        assert sorted(offsets(outcomes)) == list(range(400))
        assert most <= 3
        # Both lanes are backlogged at first: 16 of p5 to 1 of p1, whoever takes them.
        assert 180 <= began[:200].count("shop.p5") <= 200
        await until(lambda: not bench.feed.running)
        assert await bench.executor.drain(5)
        assert bench.meter.utilisation(now_ms()) <= 1
        assert bench.crashes == []

    run(count, body, concurrency=3)


def test_threads_that_go_on_by_themselves_stop_when_the_worker_drains() -> None:
    begun = threading.Event()

    def note() -> None:
        begun.set()
        time.sleep(0.0005)

    async def body(bench: Bench) -> None:
        bench.feed.post([delivery(offset) for offset in range(20_000)])
        assert await asyncio.to_thread(begun.wait, 10)
        assert await bench.executor.drain(10)
        ended = len(bench.settler.outcomes)
        await asyncio.sleep(0.05)
        assert len(bench.settler.outcomes) == ended, "nothing started after the drain"
        assert bench.feed.running == 0
        assert bench.feed.waiting == 20_000 - ended
        assert bench.executor.running == {}

    run(note, body, concurrency=4)


def test_a_partition_that_leaves_while_threads_go_on_is_quiet_and_nothing_of_it_starts() -> None:
    other = Assigned("shop.p4", 0, 1)
    began: list[str] = []

    def note() -> None:
        began.append(context().task.lane)
        time.sleep(0.0005)

    async def body(bench: Bench) -> None:
        bench.feed.take_over(other, None, 0)
        goes = [delivery(offset) for offset in range(2_000)]
        stays = [delivery(offset, assigned=other, lane="shop.p4", priority=4) for offset in range(1_000)]
        bench.feed.post([each for pair in zip(goes, stays, strict=False) for each in pair])
        await until(lambda: began.count("shop.p5") > 20)
        assert await asyncio.to_thread(bench.feed.revoke, [P5], 10)
        started = began.count("shop.p5")
        assert started < 1_000
        await until(lambda: began.count("shop.p4") == 1_000)
        assert began.count("shop.p5") == started
        assert bench.crashes == []

    run(note, body, concurrency=4)


def test_a_bug_in_the_feed_ends_the_worker_also_where_a_thread_meets_it() -> None:
    async def body(bench: Bench) -> None:
        def broken(_limit: int) -> Any:
            raise ZeroDivisionError

        bench.feed.post([delivery(1)])
        await until(lambda: bench.executor.running)
        bench.feed.take = broken  # type: ignore[assignment, method-assign]
        release.set()
        await until(lambda: bench.crashes)
        assert isinstance(bench.crashes[0], ZeroDivisionError)
        assert await bench.executor.drain(5)

    release = threading.Event()

    def wait() -> None:
        assert release.wait(60)

    run(wait, body)
