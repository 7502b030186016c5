"""What the demo concludes from what it has seen: counts by origin, order, retries, the trace as a tree."""

from __future__ import annotations

from msgspec import Raw

from fairlane.demo import summary
from fairlane.demo.journal import Enqueued, Journal
from fairlane.demo.spans import Span
from fairlane.demo.summary import Found
from fairlane.demo.tree import lines, trace_of
from fairlane.topics.events import ErrorInfo, State, StatusEvent

URGENT = Enqueued("shop.p5/0/0", "u", "send_receipt", 5, "backlog")
LATER = Enqueued("shop.p1/0/0", "l", "nightly_report", 1, "backlog")


def event(task: Enqueued, state: State, **fields: int | str | ErrorInfo) -> StatusEvent:
    return StatusEvent(id=task.id, type=task.type, state=state, result=Raw(b'"done"'), **{"attempt": 1, **fields})  # type: ignore[arg-type]


def journal(*events: tuple[Enqueued, StatusEvent]) -> Journal:
    made = Journal([LATER, URGENT])
    for task, what in events:
        made.take(task.origin, what)
    return made


def found(made: Journal, spans: tuple[Span, ...] = (), codes: dict[str, int | None] | None = None) -> Found:
    return Found(made, (), spans, 0, codes or {"worker-1": 0})


def test_a_task_that_has_not_ended_is_a_problem() -> None:
    made = journal((URGENT, event(URGENT, "completed")))
    assert not made.all_ended
    assert summary.problems(found(made)) == ["1 of 2 tasks have not ended, such as nightly_report l (shop.p1/0/0)"]


def test_a_task_that_ended_twice_is_a_problem() -> None:
    once = event(URGENT, "completed")
    made = journal((URGENT, once), (URGENT, once), (LATER, event(LATER, "completed")))
    assert made.all_ended
    assert summary.problems(found(made)) == ["1 tasks ended more than once, such as send_receipt u (shop.p5/0/0)"]


def test_a_dead_task_without_a_letter_is_a_problem() -> None:
    made = journal((URGENT, event(URGENT, "failed")), (LATER, event(LATER, "completed")))
    assert summary.problems(found(made)) == ["1 tasks are dead and 0 of them are in the dead letter queue"]


def test_a_worker_that_did_not_drain_is_a_problem() -> None:
    made = journal((URGENT, event(URGENT, "completed")), (LATER, event(LATER, "completed")))
    assert summary.problems(found(made, codes={"worker-1": 6})) == ["worker-1 ended with exit code 6"]


def test_events_of_other_tasks_are_nobodys_business() -> None:
    made = journal()
    made.take("shop.p3/0/0", event(URGENT, "completed"))
    assert not made.ended("completed")


def test_the_order_of_the_starts_is_that_of_the_first_attempts() -> None:
    made = journal(
        (LATER, event(LATER, "completed", started_ms=30)),
        (URGENT, event(URGENT, "retrying", started_ms=10)),
        (URGENT, event(URGENT, "completed", started_ms=50, attempt=2)),
    )
    assert [(start.level, start.enqueued_at, start.started_at) for start in made.starts()] == [
        (5, (2,), (1,)),
        (1, (1,), (2,)),
    ]


def test_a_retry_is_measured_from_the_end_of_the_failed_attempt() -> None:
    failed = event(URGENT, "retrying", finished_ms=100, due_ms=1_100, error=ErrorInfo("OSError", "no"))
    made = journal((URGENT, failed), (URGENT, event(URGENT, "completed", started_ms=1_150, attempt=2)))
    (retry,) = made.retries()
    assert (retry.asked_ms, retry.waited_ms) == (1_000, 1_050)
    assert any("attempt 1  OSError" in line and "1.05 s" in line for line in summary.text(found(made)))


def span(
    name: str, span_id: str, *, parent: str = "", links: tuple[str, ...] = (), start_ms: int = 0, **fields: str | int
) -> Span:
    attributes = {f"messaging.{key}".replace("__", "."): value for key, value in fields.items() if key != "attempt"}
    attributes["fairlane.task.attempt"] = fields.get("attempt", 0)
    ns = start_ms * 1_000_000
    return Span(name, "t", span_id, parent, links, attributes, "", "worker-1", ns, ns + 2_000_000)


def test_the_tree_has_every_attempt_and_finds_its_settlement_by_the_link() -> None:
    spans = (
        span("commit g", "c", parent="other", links=("other", "a2"), start_ms=40, operation__name="commit"),
        span("process retry", "a2", parent="s", start_ms=30, message__id="u", attempt=2),
        span("process p5", "a1", parent="s", start_ms=10, message__id="u", attempt=1),
        span("send p5", "s", message__id="u", operation__type="send"),
        span("process p1", "x", parent="y", message__id="l", attempt=1),
    )
    trace = trace_of("u", spans)
    assert trace is not None
    assert not trace.is_whole, "the first attempt has no settlement"
    assert list(lines(trace)) == [
        "send p5  [worker-1]  +0 ms, took 2 ms",
        "├─ process p5  [worker-1]  +10 ms, took 2 ms  attempt 1",
        "└─ process retry  [worker-1]  +30 ms, took 2 ms  attempt 2",
        "   └─ commit g  [worker-1]  +40 ms, took 2 ms  settled, alone",
    ]
    assert trace_of("l", spans) is None
