"""Batches on their way from the feed through the executor: what runs together, in whose place, and what is left."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from worker_parts import NOW_MS, P5, config, delivery

from fairlane.consumer.adaptive import Adaptive
from fairlane.consumer.attempt import Attempts
from fairlane.consumer.batch_attempt import BatchAttempts
from fairlane.consumer.batches import BatchPolicy
from fairlane.consumer.context import context
from fairlane.consumer.delivery import Assigned, Delivery
from fairlane.consumer.executor import Executor
from fairlane.consumer.feed import Feed
from fairlane.consumer.handlers import Handler
from fairlane.consumer.meter import Meter
from fairlane.consumer.outcome import Completed, HandedBack, Outcome, Retrying
from fairlane.consumer.pool import WorkerPool
from fairlane.consumer.retry import RetryPolicy
from fairlane.consumer.threads import Threads
from fairlane.consumer.to_settler import RecordLosses
from fairlane.consumer.watchdog import attempt_in
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import UsageError
from fairlane.topics.offset_map import OffsetMap
from fairlane.topics.payload import Signature

P3 = Assigned("shop.p3", 0, 2)
P1 = Assigned("shop.p1", 0, 3)


class Recorder:
    """Stands where the settler does, and commits losses at once."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.backlog = self.backlog_bytes = 0
        self.changed = asyncio.Event()

    def post(self, *messages: Any) -> None:
        for each in messages:
            if isinstance(each, RecordLosses):
                each.done()
            else:
                self.outcomes.append(each)
        self.changed.set()


async def index(items: list[int]) -> list[int]:
    return items


async def send() -> None: ...


class Bench:
    """A feed and an executor: `index` runs in batches, `send` by itself."""

    def __init__(
        self,
        function: Callable[..., Any] = index,
        *assigned: Assigned,
        settings: Any = None,
        others: Callable[..., Any] = send,
        **policies: Any,
    ) -> None:
        made = config(**{"start_wait_s": 0, **(settings or {})})
        chosen: Any = {"batch": BatchPolicy(max_size=3, max_wait_s=60), **policies}
        handlers = {
            "index": Handler("index", function, Signature.of_items(function, task_type="index"), **chosen),
            "send": Handler("send", others, Signature.of(others, task_type="send")),
        }
        self.settler = Recorder()
        settler = cast("Any", self.settler)
        self.crashes: list[BaseException] = []
        self.threads = Threads()
        self.meter = Meter(made.concurrency, handlers)
        self.woken = 0
        self.feed = Feed(made, handlers, settler, self._wake)
        attempts = Attempts(made, handlers, (), self.threads)
        self.executor = Executor(
            made,
            self.feed,
            attempts,
            settler,
            self.meter,
            on_crash=self.crashes.append,
            batches=BatchAttempts(made, handlers, attempts),
        )
        for each in assigned or (P5,):
            self.feed.take_over(each, None, 0)
        for _ in range(2):
            self.feed.refresh(NOW_MS)
        self.feed.begin()

    def _wake(self) -> None:
        self.woken += 1
        self.executor.wake()

    def post(self, *deliveries: Delivery) -> None:
        self.feed.post(deliveries)
        self.feed.refresh(NOW_MS)

    def gather(self, limit: int = 100, now_ms: int = NOW_MS) -> tuple[list[int], list[list[int]]]:
        """Offsets of what starts by itself, and of each batch."""
        self.feed.refresh(now_ms)
        alone, batches = self.feed.gather(limit, now_ms)
        self.started = batches
        return [each.offset for each in alone], [[each.offset for each in batch] for batch in batches]

    async def settled(self, count: int) -> list[Outcome]:
        """Wait for so many outcomes."""
        async with asyncio.timeout(90):
            while len(self.settler.outcomes) < count:
                self.settler.changed.clear()
                await self.settler.changed.wait()
        return self.settler.outcomes


def item(offset: int, **fields: Any) -> Delivery:
    return delivery(offset, task_type="index", payload=b"%d" % offset, **fields)


def items(*offsets: int, **fields: Any) -> list[Delivery]:
    return [item(offset, **fields) for offset in offsets]


# What the feed gathers.


def test_batches_and_single_tasks_start_side_by_side_in_the_places_that_there_are() -> None:
    bench = Bench()
    bench.post(item(1), delivery(2), *items(3, 4, 5), delivery(6), delivery(7))
    assert bench.gather(limit=3) == ([2, 6], [[1, 3, 4]])
    assert bench.feed.waiting == 2, "one is gathered, one waits for a place"
    assert bench.gather() == ([7], [])
    assert bench.feed.running == 6
    assert sum(bench.feed.taken.values()) == 7


def test_lanes_share_by_tasks_however_many_run_at_once() -> None:
    bench = Bench(index, P5, P1, batch=BatchPolicy(max_size=4, max_wait_s=60))
    bench.post(*items(*range(100)), *[delivery(n, assigned=P1, lane="shop.p1") for n in range(100, 110)])
    alone, batches = bench.gather(limit=9)
    assert (len(alone), len(batches)) == (1, 8)
    assert sum(map(len, batches)) == 32, "two rounds of 16 of p5, and between them one of p1"


def test_a_batch_is_due_when_its_oldest_has_waited_and_goes_before_what_comes_later() -> None:
    bench = Bench(batch=BatchPolicy(max_size=3, max_wait_s=0.5))
    bench.post(item(1))
    assert bench.gather() == ([], [])
    assert bench.feed.next_due_ms == NOW_MS + 500
    bench.post(item(2), delivery(3), delivery(4))
    assert bench.gather(limit=1, now_ms=NOW_MS + 499) == ([3], [])
    assert bench.gather(limit=1, now_ms=NOW_MS + 500) == ([], [[1, 2]])
    assert bench.gather(limit=1, now_ms=NOW_MS + 500) == ([4], [])
    assert bench.feed.next_due_ms is None


def test_a_batch_without_a_wait_is_what_is_there_even_in_one_place() -> None:
    bench = Bench(batch=BatchPolicy(max_size=3, max_wait_s=0))
    bench.post(*items(1, 2))
    assert bench.gather(limit=1) == ([], [[1, 2]])


def test_as_many_batches_run_as_their_type_may_and_no_more_than_theirs_are_gathered() -> None:
    bench = Bench(concurrency=2, batch=BatchPolicy(max_size=3, max_wait_s=0.5))
    bench.post(*items(*range(20)), delivery(100))
    assert bench.gather() == ([100], [[0, 1, 2], [3, 4, 5]])
    first, _ = bench.started
    assert bench.gather(now_ms=NOW_MS + 9_000) == ([], [])
    assert bench.feed.waiting == 14
    bench.feed.batch_done(first, NOW_MS + 9_000)
    assert bench.gather(now_ms=NOW_MS + 9_000) == ([], [[6, 7, 8]])
    assert bench.feed.running == 7


def test_retries_run_among_their_like_in_smaller_batches_and_the_last_attempt_alone() -> None:
    bench = Bench(batch=BatchPolicy(max_size=9, max_wait_s=60), retry=RetryPolicy(max_attempts=3))
    bench.post(*items(*range(10, 14), attempt=2), *items(1, 2), *items(20, 21, attempt=3))
    assert bench.gather() == ([], [[10, 11, 12], [20], [21]])
    bench.post(*items(30, 31, attempt=2, max_attempts=2))
    assert bench.gather() == ([], [[30], [31]]), "a task's own limit counts"


def test_whom_a_worker_may_have_died_of_runs_alone() -> None:
    bench = Bench(index, P3)
    bench.feed.take_over(P5, OffsetMap(1, 3, (1, 2), {}, clean=False), 3)
    bench.post(*items(1, 2), item(3), *items(4, 5, worker_lost=1), *items(6, 7), item(8))
    bench.feed.refresh(NOW_MS)
    assert sorted(bench.gather()[1]) == [[1], [2], [3, 6, 7], [4], [5]]


def test_what_is_gathered_of_a_partition_that_leaves_is_not_started_and_holds_nothing() -> None:
    bench = Bench(index, P5, P3, concurrency=1)
    bench.post(*items(1, 2), *items(3, assigned=P3, lane="shop.p3"))
    bench.post(*items(10, 11, 12, assigned=P3, lane="shop.p3"))
    assert bench.gather() == ([], [[1, 2, 3]])
    bench.post(*items(4, 5))
    bench.feed.batch_done(bench.started[0], NOW_MS)
    assert bench.gather(limit=1) == ([], [[4, 5, 10]])
    bench.feed.batch_done(bench.started[0], NOW_MS)
    bench.post(item(6))
    assert bench.gather() == ([], [[6, 11, 12]])
    bench.feed.batch_done(bench.started[0], NOW_MS)
    bench.post(*items(7, 8))
    assert bench.gather() == ([], [])
    taken = sum(bench.feed.taken.values())
    bench.feed.revoke([P5], 0)
    quiet: threading.Event = bench.feed._inbox[-1].quiet  # type: ignore[union-attr]
    bench.feed.refresh(NOW_MS)
    assert quiet.is_set()
    assert bench.feed.waiting == 0
    assert sum(bench.feed.taken.values()) == taken, "they had left the buffers when they were gathered"
    bench.post(*items(20, 21, 22, assigned=P3, lane="shop.p3"))
    assert bench.gather() == ([], [[20, 21, 22]]), "their places in the type are free again"


def test_a_partition_that_leaves_waits_for_the_batches_in_which_it_has_a_task() -> None:
    bench = Bench(index, P5, P3)
    bench.post(item(1), *items(2, 3, assigned=P3, lane="shop.p3"))
    bench.gather()
    bench.feed.revoke([P3], 0)
    quiet: threading.Event = bench.feed._inbox[-1].quiet  # type: ignore[union-attr]
    bench.feed.refresh(NOW_MS)
    assert not quiet.is_set()
    bench.feed.batch_done(bench.started[0], NOW_MS)
    assert quiet.is_set()


@pytest.mark.parametrize(
    ("policies", "says"),
    [
        ({"isolation": "process"}, r"one task at a time\. Drop batch"),
        ({"concurrency": Adaptive(1, 9)}, "Say how many batches run at once"),
    ],
)
def test_what_batches_cannot_have_is_refused(policies: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Handler("index", index, Signature.of_items(index), batch=BatchPolicy(), **policies)


def test_the_concurrency_of_batches_does_not_adapt_where_that_of_all_others_does() -> None:
    bench = Bench(settings={"concurrency": 9, "adaptive_min": 2})
    assert set(bench.feed.limits) == {"send"}
    bench.post(*items(*range(12)), *[delivery(n) for n in range(20, 30)])
    assert bench.gather() == ([20, 21], [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]])


# What the executor runs.


def run(bench: Callable[[], Bench], body: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        made = bench()
        try:
            made.executor.start()
            async with asyncio.timeout(90):
                await body(made)
            assert made.crashes == []
        finally:
            made.threads.close()

    asyncio.run(main())


def test_a_thousand_tasks_run_in_few_batches_and_each_has_its_outcome() -> None:
    sizes = []

    async def sized(numbers: list[int]) -> list[int]:
        sizes.append(len(numbers))
        await asyncio.sleep(0)
        return numbers

    async def body(bench: Bench) -> None:
        bench.feed.post(items(*range(1_000)))
        outcomes = await bench.settled(1_000)
        results = {each.delivery.offset: each.result for each in outcomes if isinstance(each, Completed)}
        assert results == {offset: b"%d" % offset for offset in range(1_000)}
        assert sizes == [100] * 10
        assert (bench.feed.running, len(bench.executor.running)) == (0, 0)
        assert bench.meter.counters.completed == 1_000

    run(lambda: Bench(sized, batch=BatchPolicy(max_size=100, max_wait_s=60)), body)


def test_what_is_not_full_runs_when_its_time_has_come() -> None:
    async def body(bench: Bench) -> None:
        began_ms = now_ms()
        bench.feed.post(items(1, 2))
        (first, _) = await bench.settled(2)
        assert isinstance(first, Completed)
        assert first.started_ms - began_ms >= 150

    run(lambda: Bench(batch=BatchPolicy(max_size=3, max_wait_s=0.15)), body)


def test_a_batch_holds_one_place_and_others_go_on_beside_it() -> None:
    held = asyncio.Event()
    most = 0

    async def hold(numbers: list[int]) -> None:
        nonlocal most
        found = bench_of[0].executor.running
        most = max(most, len(found))
        await held.wait()

    async def count() -> None:
        nonlocal most
        most = max(most, len(bench_of[0].executor.running))

    bench_of: list[Bench] = []

    async def body(bench: Bench) -> None:
        bench_of.append(bench)
        bench.feed.post([*items(*range(9)), *[delivery(n) for n in range(100, 120)]])
        await bench.settled(20)
        batches = list(bench.executor.running.values())
        assert sorted(1 + len(each.others) for each in batches) == [3]
        assert bench.feed.running == 3
        held.set()
        await bench.settled(29)
        assert most == 2
        # Of two places one was busy all the time, however many tasks were in it.
        assert bench.meter.utilisation(now_ms()) <= 1.0

    run(lambda: Bench(hold, settings={"concurrency": 2}, concurrency=1, others=count), body)


def test_a_batch_that_waits_for_a_place_does_not_wake_the_loop_until_there_is_one() -> None:
    held = asyncio.Event()

    async def hold() -> None:
        await held.wait()

    async def body(bench: Bench) -> None:
        pumps = 0
        pump = bench.executor._pump

        def counted() -> None:
            nonlocal pumps
            pumps += 1
            pump()

        bench.executor._pump = counted  # type: ignore[method-assign]
        bench.feed.post([item(1), delivery(2)])
        await asyncio.sleep(0.2)
        assert bench.feed.waiting == 1
        assert pumps < 5
        held.set()
        assert len(await bench.settled(2)) == 2

    policy = BatchPolicy(max_size=3, max_wait_s=0.02)
    run(lambda: Bench(batch=policy, settings={"concurrency": 1}, others=hold), body)


def test_at_the_end_what_is_gathered_is_left_at_once_and_what_runs_may_end() -> None:
    held = asyncio.Event()

    async def hold(numbers: list[int]) -> None:
        await held.wait()

    async def body(bench: Bench) -> None:
        bench.feed.post(items(*range(5)))
        while len(bench.executor.running) < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        draining = asyncio.create_task(bench.executor.drain(10))
        await asyncio.sleep(0)
        held.set()
        assert await draining
        assert len(bench.settler.outcomes) == 3
        assert bench.feed.waiting == 2

    run(lambda: Bench(hold), body)


def test_a_batch_that_outlives_the_grace_is_handed_back() -> None:
    async def hold(numbers: list[int]) -> None:
        await asyncio.sleep(60)

    async def body(bench: Bench) -> None:
        bench.feed.post(items(*range(3)))
        while not bench.executor.running:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert not await bench.executor.drain(0.01)
        assert await bench.executor.hand_back(5)
        assert [type(outcome) for outcome in bench.settler.outcomes] == [HandedBack] * 3

    run(lambda: Bench(hold), body)


def test_one_who_makes_all_fail_is_alone_with_it_before_anybody_is_dead() -> None:
    async def index_or_fail(numbers: list[int]) -> list[int]:
        if 7 in numbers:
            raise ValueError("seven")
        assert len(context().each) == len(numbers)
        return numbers

    async def body(bench: Bench) -> None:
        bench.feed.post(items(*range(27)))
        ended: dict[int, Outcome] = {}
        again = 0
        while len(ended) < 27:
            outcome = cast("Any", (await bench.settled(1)).pop(0))
            if isinstance(outcome, Retrying):
                again += 1
                bench.feed.post([item(outcome.delivery.offset, attempt=outcome.task.attempt)])
            else:
                ended[outcome.delivery.offset] = outcome
        assert [offset for offset, outcome in ended.items() if not isinstance(outcome, Completed)] == [7]
        assert again >= 27

    policy = BatchPolicy(max_size=27, max_wait_s=0.05)
    run(lambda: Bench(index_or_fail, batch=policy, retry=RetryPolicy(max_attempts=4, base_s=0, jitter=0)), body)


def test_who_looks_for_what_holds_up_the_loop_finds_the_batch() -> None:
    found = []

    async def look(numbers: list[int]) -> None:
        found.append(attempt_in(sys._getframe())[0])

    async def body(bench: Bench) -> None:
        bench.feed.post(items(4, 5, 6))
        await bench.settled(3)
        assert [cast("Delivery", each).offset for each in found] == [4]

    run(lambda: Bench(look), body)


def test_a_pool_runs_one_task_of_a_batch_handler_as_a_batch_of_one() -> None:
    pool = WorkerPool(config())
    pool.register_handler("index", index, batch=BatchPolicy())
    outcome = asyncio.run(pool.process(item(7).task))
    assert isinstance(outcome, Completed)
    assert outcome.result == b"7"
