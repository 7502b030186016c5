"""One batch: whatever its handler does, each of its tasks ends for itself; on a real event loop, without Kafka."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pydantic
import pytest
from attempt_bench import ONCE_MORE
from opentelemetry.trace import StatusCode
from span_recorder import Recorder, as_text, error_type, install
from worker_parts import NAMES, config, delivery

from fairlane.consumer.attempt import Attempts
from fairlane.consumer.batch_attempt import BatchAttempts
from fairlane.consumer.batches import BatchPolicy
from fairlane.consumer.context import context
from fairlane.consumer.delivery import Assigned, Delivery
from fairlane.consumer.handlers import Handler, Middleware
from fairlane.consumer.outcome import Completed, Dead, Expired, HandedBack, Outcome, Retrying, traceparent_of
from fairlane.consumer.retry import RetryPolicy
from fairlane.consumer.signals import Reject, RetryLater
from fairlane.consumer.threads import Threads
from fairlane.topics.errors import UsageError
from fairlane.topics.payload import Signature
from fairlane.topics.task import Task


class Item(pydantic.BaseModel):
    n: int


def numbered(*numbers: int, **fields: Any) -> list[Delivery]:
    """Deliveries with an item each, at the offsets of their numbers."""
    return [delivery(number, payload=b'{"n": %d}' % number, **fields) for number in numbers]


class Bench:
    """Batches of one handler."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        middleware: Sequence[Middleware] = (),
        settings: Any = None,
        **policies: Any,
    ) -> None:
        self.threads = Threads()
        signature = Signature.of_items(function, task_type="send")
        handler = Handler("send", function, signature, **{"retry": ONCE_MORE, "batch": BatchPolicy(), **policies})
        made, handlers = config(**(settings or {})), {"send": handler}
        self.attempts = Attempts(made, handlers, middleware, self.threads)
        self.batches = BatchAttempts(made, handlers, self.attempts)

    def run(self, batch: Sequence[Delivery]) -> list[Outcome]:
        """The outcomes of a batch that nobody disturbs."""
        return asyncio.run(self._closing(self.batches.run(batch)))

    def disturb(self, batch: Sequence[Delivery], begun: threading.Event) -> list[Outcome]:
        """The outcomes of a batch that a shutdown takes away when it has begun."""

        async def main() -> list[Outcome]:
            task = asyncio.ensure_future(self.batches.run(batch))
            assert await asyncio.to_thread(begun.wait, 10)
            self.attempts.leaving = True
            task.cancel()
            return await task

        return asyncio.run(self._closing(main()))

    async def _closing(self, body: Awaitable[list[Outcome]]) -> list[Outcome]:
        try:
            async with asyncio.timeout(90):
                return await body
        finally:
            self.threads.close()


def told(outcomes: Sequence[Outcome]) -> list[Any]:
    """What became of each: its result, or its error with what follows."""
    found: list[Any] = []
    for outcome in outcomes:
        if isinstance(outcome, Completed):
            found.append(outcome.result)
        else:
            assert isinstance(outcome, Retrying | Dead), outcome
            assert outcome.error is not None
            found.append((outcome.error.type, outcome.reason if isinstance(outcome, Dead) else "again"))
    return found


# What it returned.


async def double(items: list[Item]) -> list[int]:
    return [item.n * 2 for item in items]


def double_on_a_thread(items: list[Item]) -> list[int]:
    assert threading.current_thread() is not threading.main_thread()
    return [item.n * 2 for item in items]


@pytest.mark.parametrize("function", [double, double_on_a_thread])
def test_a_handler_gets_the_items_in_order_and_each_task_its_own_result(function: Callable[..., Any]) -> None:
    outcomes = Bench(function).run(numbered(3, 1, 2))
    assert told(outcomes) == [b"6", b"2", b"4"]
    assert [outcome.delivery.offset for outcome in outcomes if isinstance(outcome, Completed)] == [3, 1, 2]


def test_a_handler_that_returns_nothing_has_completed_all() -> None:
    async def index(items: list[Item]) -> None: ...

    assert told(Bench(index).run(numbered(1, 2))) == [b"null", b"null"]


def test_an_exception_in_the_list_is_the_failure_of_that_task_alone() -> None:
    async def index(items: list[Item]) -> list[int | BaseException]:
        return [1, ConnectionError("x"), Reject("no"), RetryLater(7), ValueError("never"), 6]

    outcomes = Bench(index, retry=RetryPolicy(fatal=(ValueError,))).run(numbered(1, 2, 3, 4, 5, 6))
    assert told(outcomes) == [
        b"1",
        ("ConnectionError", "again"),
        ("Reject", "rejected"),
        ("RetryLater", "again"),
        ("ValueError", "fatal"),
        b"6",
    ]
    later = outcomes[3]
    assert isinstance(later, Retrying)
    assert later.task.not_before_ms - later.finished_ms == 7_000


def test_a_result_that_cannot_be_stored_is_the_failure_of_that_task_alone() -> None:
    async def index(items: list[Item]) -> list[Any]:
        return ["fits", "x" * 100, object()]

    outcomes = Bench(index, settings={"result_max_bytes": 50}).run(numbered(1, 2, 3))
    assert told(outcomes) == [b'"fits"', ("ResultTooLarge", "result_too_large"), ("InvalidResult", "again")]


@pytest.mark.parametrize(
    ("returned", "says"),
    [([1], "returned 1 results for 2 tasks"), ([1, 2, 3], "3 results"), ("ab", "returned str"), ({1: 2}, "dict")],
)
def test_a_list_of_another_length_or_none_at_all_is_fatal_for_the_batch(returned: Any, says: str) -> None:
    async def index(items: list[Item]) -> Any:
        return returned

    outcomes = Bench(index).run(numbered(1, 2))
    assert told(outcomes) == [("WrongResults", "fatal")] * 2
    assert all(isinstance(dead, Dead) and dead.error is not None and says in dead.error.message for dead in outcomes)


# What it raised.


def test_a_handler_that_raises_fails_every_task_by_its_own_count() -> None:
    async def index(items: list[Item]) -> None:
        raise ConnectionError("the index is away")

    outcomes = Bench(index).run([*numbered(1), *numbered(2, attempt=2), *numbered(3, max_attempts=9, attempt=2)])
    assert told(outcomes) == [
        ("ConnectionError", "again"),
        ("ConnectionError", "max_attempts"),
        ("ConnectionError", "again"),
    ]
    assert [outcome.task.attempt for outcome in outcomes if isinstance(outcome, Retrying)] == [2, 3]
    dead = outcomes[1]
    assert isinstance(dead, Dead)
    assert dead.error is not None
    assert "the index is away" in dead.error.traceback


@pytest.mark.parametrize(("error", "said"), [(Reject("no"), "rejected"), (RetryLater(60), "again")])
def test_a_handler_may_decide_for_all(error: Exception, said: str) -> None:
    async def index(items: list[Item]) -> None:
        raise error

    assert told(Bench(index).run(numbered(1, 2))) == [(type(error).__name__, said)] * 2


def test_an_item_that_does_not_fit_or_has_expired_never_reaches_the_handler() -> None:
    seen = []

    async def index(items: list[Item]) -> list[int]:
        seen.append([item.n for item in items])
        return [item.n for item in items]

    batch = [*numbered(1), delivery(2, payload=b'{"n": "many"}'), *numbered(3, expires_ms=1), *numbered(4)]
    one, invalid, expired, four = Bench(index).run(batch)
    assert told([one, invalid, four]) == [b"1", ("InvalidPayload", "invalid_payload"), b"4"]
    assert isinstance(expired, Expired)
    assert seen == [[1, 4]]
    assert told(Bench(index).run([delivery(2, payload=b"{")])) == [("InvalidPayload", "invalid_payload")]
    assert len(seen) == 1, "a batch of which nothing is left is not run"
    assert told(Bench(index, on_invalid="retry").run([delivery(2, payload=b"[]")])) == [("InvalidPayload", "again")]


def test_a_validator_that_fails_in_another_way_fails_that_task_alone() -> None:
    class Odd(pydantic.BaseModel):
        n: int

        @pydantic.model_validator(mode="after")
        def look(self) -> Odd:
            if self.n == 2:
                raise KeyError("gone")
            return self

    def index(items: list[Any]) -> None: ...

    index.__annotations__ = {"items": list[Odd], "return": None}
    assert told(Bench(index).run(numbered(1, 2))) == [b"null", ("KeyError", "again")]


# Its time.


@pytest.mark.parametrize("kind", ["async", "thread"])
def test_the_time_of_a_batch_is_that_of_its_most_impatient_task(kind: str) -> None:
    def look() -> None:
        found = context()
        assert found.deadline is not None
        assert {one.deadline for one in found.each} == {found.deadline}

    async def index(items: list[Item]) -> None:
        look()
        await asyncio.sleep(60)

    def index_on_a_thread(items: list[Item]) -> None:
        look()
        while not all(one.cancelled for one in context().each):
            time.sleep(0.005)
        assert context().cancelled
        raise OSError("stopped")

    batch = [*numbered(1), *numbered(2, timeout_ms=50)]
    outcomes = Bench(index if kind == "async" else index_on_a_thread, timeout_s=30).run(batch)
    assert [each.task.attempt for each in outcomes if isinstance(each, Retrying)] == [2, 2]
    assert told(outcomes) == [("AttemptTimeout", "again")] * 2


def test_a_batch_that_a_shutdown_takes_away_is_handed_back_task_by_task() -> None:
    begun = threading.Event()

    async def index(items: list[Item]) -> None:
        begun.set()
        await asyncio.sleep(60)

    assert [type(outcome) for outcome in Bench(index).disturb(numbered(1, 2), begun)] == [HandedBack] * 2


def test_what_had_ended_when_a_shutdown_came_has_ended() -> None:
    begun = threading.Event()

    async def one(item: Item) -> int:
        if item.n == 2:
            begun.set()
            await asyncio.sleep(60)
        return item.n

    async def index(items: list[Item]) -> list[int | BaseException]:
        running = [asyncio.create_task(one(item)) for item in items]
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError:
            running[1].cancel()
        return await asyncio.gather(*running, return_exceptions=True)

    first, second = Bench(index).disturb(numbered(1, 2), begun)
    assert told([first]) == [b"1"]
    assert isinstance(second, HandedBack)


# Its context.


def test_what_is_sent_belongs_to_one_task_and_goes_out_if_that_one_succeeds() -> None:
    async def index(items: list[Item]) -> list[Exception | None]:
        for item, one in zip(items, context().each, strict=True):
            assert one.task.id == f"t-{item.n}"
            one.emit("audit-log", item.n)
            assert one.enqueue(Task(id=f"next-{item.n}", type="other", payload=b"1", priority=2)) == [f"next-{item.n}"]
        return [None, OSError()]

    sent, failed = Bench(index).run(numbered(1, 2))
    assert isinstance(sent, Completed)
    assert [(record.topic, record.value) for record in sent.outbox] == [("audit-log", b"1"), ("shop.p2", b"1")]
    assert isinstance(failed, Retrying)


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda: context().emit("audit-log", 1), r"context\(\).each\[number\].enqueue"),
        (lambda: context().enqueue(Task(id="x", type="other", payload=b"")), "belongs to one of them"),
        (lambda: context().task, "2 tasks, and no task"),
        (lambda: context().attempt, "one.attempt for one in"),
    ],
)
def test_a_batch_as_a_whole_has_no_task_and_sends_nothing(use: Callable[[], Any], says: str) -> None:
    async def index(items: list[Item]) -> None:
        with pytest.raises(UsageError, match=says):
            use()
        with pytest.raises(AttributeError):
            context().nothing  # type: ignore[attr-defined]  # noqa: B018

    assert told(Bench(index).run(numbered(1, 2))) == [b"null"] * 2


def test_middleware_wraps_a_batch_once_and_what_it_returns_counts() -> None:
    seen = []

    async def turn(found: Any, call_next: Callable[[], Awaitable[Any]]) -> Any:
        seen.append([one.task.id for one in found.each])
        return list(reversed(await call_next()))

    assert told(Bench(double, middleware=[turn]).run(numbered(1, 2))) == [b"4", b"2"]
    assert seen == [["t-1", "t-2"]]


# Its spans.

SAMPLED = "00-0af7651916cd43dd8448eb211c8031{:02x}-b7ad6b71692033{:02x}-01"


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return install(monkeypatch, Recorder())


def test_every_task_has_its_span_and_the_batch_one_that_links_to_what_created_them(sdk: Recorder) -> None:
    async def index(items: list[Item]) -> list[Exception | None]:
        with sdk.provider.get_tracer("users").start_as_current_span("bulk insert"):
            context().each[2].enqueue(Task(id="next", type="other", payload=b"1", priority=2))
        return [None, ConnectionError("x"), None]

    creations = [SAMPLED.format(number, number) for number in (1, 2, 3)]
    batch = [
        *[d for n, made in zip((1, 2, 3), creations, strict=True) for d in numbered(n, traceparent=made)],
        *numbered(4, traceparent=SAMPLED.format(4, 4)[:-2] + "00", expires_ms=0),
    ]

    async def four(items: list[Item]) -> list[Exception | None]:
        return [*await index(items), None]

    outcomes = Bench(four).run(batch)
    (whole,) = [span for span in sdk.spans("process") if "messaging.batch.message_count" in (span.attributes or {})]
    each = [span for span in sdk.spans("process") if span is not whole]
    assert [as_text(span.parent) for span in each] == creations, "each is in the trace of its task"
    assert [error_type(span) for span in each] == [None, "ConnectionError", None]
    assert [[as_text(link.context) for link in span.links] for span in each] == [
        [made, as_text(whole.context)] for made in creations
    ]
    assert [traceparent_of(outcome) for outcome in outcomes] == [*[as_text(span.context) for span in each], ""]
    assert [as_text(link.context) for link in whole.links] == creations
    assert as_text(whole.parent) == as_text(each[0].context)
    assert (whole.attributes or {})["messaging.batch.message_count"] == 4
    assert whole.name == "process shop.p5"
    assert as_text(sdk.one("bulk insert").parent) == as_text(whole.context)
    assert as_text(sdk.one("create").parent) == as_text(each[2].context), "it is sent by one of the tasks"


def test_a_batch_that_fails_or_is_handed_back_says_so_once_for_all_and_for_each(sdk: Recorder) -> None:
    begun = threading.Event()

    async def index(items: list[Item]) -> None:
        begun.set()
        raise ConnectionError("away")

    other = Assigned(NAMES.lane(3), 0, 1)
    batch = [*numbered(1, traceparent=SAMPLED.format(1, 1)), *numbered(2, assigned=other)]
    Bench(index).run(batch)
    assert {(span.name, error_type(span)) for span in sdk.spans("process")} == {
        ("process shop.p5", "ConnectionError"),
        ("process shop.p3", "ConnectionError"),
        ("process", "ConnectionError"),
    }

    async def hang(items: list[Item]) -> None:
        begun.set()
        await asyncio.sleep(60)

    begun.clear()
    Bench(hang).disturb(numbered(3, traceparent=SAMPLED.format(3, 3)), begun)
    last = sdk.spans("process")[-2:]
    assert [[event.name for event in span.events] for span in last] == [["handed back"]] * 2
    assert {span.status.status_code for span in last} == {StatusCode.UNSET}


def test_where_no_sdk_is_set_what_one_task_sends_continues_the_trace_of_that_one() -> None:
    async def index(items: list[Item]) -> None:
        context().each[1].enqueue(Task(id="next", type="other", payload=b"1", priority=2))

    made = SAMPLED.format(2, 2)
    _, sent = Bench(index).run([*numbered(1, traceparent=SAMPLED.format(1, 1)), *numbered(2, traceparent=made)])
    assert isinstance(sent, Completed)
    assert dict(sent.outbox[0].headers)["traceparent"] == made.encode()


def test_a_task_without_a_trace_has_one_from_its_first_batch_on(sdk: Recorder) -> None:
    async def index(items: list[Item]) -> None:
        raise OSError

    (again,) = Bench(index).run(numbered(1))
    assert isinstance(again, Retrying)
    assert again.task.traceparent == again.traceparent != ""
