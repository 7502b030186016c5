"""What a partition of events tells those who wait, against a model that has the whole partition before it."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import Future

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from properties import thorough

from fairlane.producer.watch import Waiter, Watch
from fairlane.topics import events
from fairlane.topics.events import State, StatusEvent

IDS = ("a", "b", "c")


def event(task_id: str, state: State, number: int) -> bytes:
    raw = msgspec.Raw(b"%d" % number)
    return events.encode(StatusEvent(id=task_id, type="t", state=state, result=raw))


class Followed(RuleBasedStateMachine):
    """A log that grows, a reader that reads it in steps and is told to go back, and people who ask about tasks.

    A record's time is its number in the log. The model knows the log; whoever asks must be told of the newest event
    that was in the log when they asked, or of a newer one, and of a terminal one if that is what they wait for.
    """

    @initialize(remembered=st.sampled_from([60, 2_000, 100_000]))
    def begin(self, remembered: int) -> None:
        self.log: list[tuple[int, str, State, bytes]] = []
        self.end = 0
        self.next = 0
        self.watch = Watch(0, 0, 0, remembered_bytes=remembered)
        self.asked: list[tuple[Waiter, int]] = []

    @rule(
        task_id=st.sampled_from(IDS), state=st.sampled_from(["retrying", "completed", "failed"]), gap=st.integers(0, 2)
    )
    def something_happens(self, task_id: str, state: State, gap: int) -> None:
        offset = self.end + gap
        self.log.append((offset, task_id, state, event(task_id, state, offset)))
        self.end = offset + 1

    @rule(count=st.integers(1, 5))
    def the_reader_goes_on(self, count: int) -> None:
        for offset, task_id, _, value in [record for record in self.log if record[0] >= self.next][:count]:
            self.watch.read(offset, task_id.encode(), value)
            self.next = offset + 1

    @rule()
    def the_reader_reads_to_the_end(self) -> None:
        self.the_reader_goes_on(len(self.log))
        self.watch.reached(self.end)
        self.next = self.end

    @rule(
        task_id=st.sampled_from(IDS),
        back=st.integers(0, 10),
        ends_only=st.booleans(),
        end_is_known=st.booleans(),
    )
    def somebody_asks(self, task_id: str, back: int, ends_only: bool, end_is_known: bool) -> None:
        since = max(0, self.end - back)
        if not self.watch.covers(since) and since < self.watch.covered_from:
            self.watch.rewind(since, since)
            self.next = since
        waiter = Waiter(task_id, since, ends_only, Future())
        self.watch.add(waiter, self.end if end_is_known else self.next)
        self.asked.append((waiter, self.end if end_is_known else self.next))

    @invariant()
    def who_is_told_is_told_the_newest(self) -> None:
        for waiter, end in getattr(self, "asked", []):
            if not waiter.future.done():
                continue
            answer = waiter.future.result()
            since = [r for r in self.log if r[1] == waiter.task_id and r[0] >= waiter.since_ms]
            before = [r for r in since if r[0] < end]
            if answer is None:
                assert not waiter.ends_only
                assert not before
                continue
            assert isinstance(answer, StatusEvent)
            told = int(bytes(answer.result))
            assert answer.id == waiter.task_id
            assert not before or told >= before[-1][0]
            assert not waiter.ends_only or answer.state in ("completed", "failed")

    @rule()
    def at_the_end_everybody_has_the_answer_that_there_is(self) -> None:
        self.the_reader_reads_to_the_end()
        for waiter, _ in self.asked:
            newest = [r for r in self.log if r[1] == waiter.task_id and r[0] >= waiter.since_ms][-1:]
            if not waiter.ends_only or (newest and newest[0][2] != "retrying"):
                assert waiter.future.done()


Followed.TestCase.settings = thorough(150, steps=40)
TestFollowed = Followed.TestCase


def test_garbage_in_the_status_topic_is_passed_over() -> None:
    watch = Watch(0, 0, 0)
    waiter = Waiter("a", 0, True, Future())
    watch.add(waiter, 0)
    for offset, (key, value) in enumerate([(None, b"x"), (b"a", b"x"), (b"\xff", b"{}"), (b"a", None)]):
        watch.read(offset, key, value)
    assert not waiter.future.done()
    watch.read(9, b"a", event("a", "completed", 9))
    assert waiter.future.done()


def test_who_gave_up_is_forgotten() -> None:
    watch = Watch(0, 0, 0)
    waiter = Waiter("a", 0, True, Future())
    watch.add(waiter, 0)
    assert watch.is_awaited
    waiter.future.cancel()
    watch.read(0, b"a", event("a", "completed", 0))
    assert [watch.is_awaited for _ in range(2)] == [False, False]


def test_what_is_remembered_takes_no_more_memory_than_it_may() -> None:
    watch, limit = Watch(0, 0, 0, remembered_bytes=1_000_000), 1_000_000
    tracemalloc.start()
    for number in range(5_000):
        task_id = f"task-{number}"
        watch.read(number, task_id.encode(), event(task_id, "completed", number))
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.5 * limit < taken < 1.25 * limit
