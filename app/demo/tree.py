"""One task's trace as a tree: the producer's span, every attempt under it, and under each what settled it.

Invariant: no I/O. A settlement settles many attempts at once, so it is found by its links, not by its parent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fairlane.demo.spans import Span

_NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Trace:
    """Spans of one task: who enqueued it, its attempts in order, and the settlement of each (None if none came)."""

    send: Span
    attempts: tuple[tuple[Span, Span | None], ...]

    @property
    def is_whole(self) -> bool:
        """Whether every attempt has its settlement, and nothing between them is missing."""
        numbers = [attempt.attributes.get("fairlane.task.attempt") for attempt, _ in self.attempts]
        return numbers == list(range(1, len(numbers) + 1)) and all(commit for _, commit in self.attempts)


def trace_of(task_id: str, spans: Sequence[Span]) -> Trace | None:
    """The trace of a task; None where no span of its producer came."""
    of_task = [span for span in spans if span.attributes.get("messaging.message.id") == task_id]
    sends = [span for span in of_task if span.attributes.get("messaging.operation.type") == "send"]
    if not sends:
        return None
    send = sends[0]
    attempts = sorted(
        (span for span in of_task if span.trace_id == send.trace_id and span.parent_id == send.span_id),
        key=lambda span: span.start_ns,
    )
    commits = {
        link: span
        for span in spans
        if span.attributes.get("messaging.operation.name") == "commit" and not span.error
        for link in span.links
    }
    return Trace(send, tuple((attempt, commits.get(attempt.span_id)) for attempt in attempts))


def lines(trace: Trace) -> Iterable[str]:
    """The tree, one span a line."""
    yield _line(trace.send, trace.send, "")
    for number, (attempt, commit) in enumerate(trace.attempts, 1):
        last = number == len(trace.attempts)
        what = f"attempt {attempt.attributes.get('fairlane.task.attempt', '?')}"
        if attempt.error:
            what += f", {attempt.attributes.get('error.type', 'error')}: {attempt.error}"
        yield ("└─ " if last else "├─ ") + _line(attempt, trace.send, what)
        if commit is not None:
            others = int(commit.attributes.get("messaging.batch.message_count", 1)) - 1
            with_others = f"settled, with {others} others" if others > 1 else "settled, alone"
            with_others = "settled, with 1 other" if others == 1 else with_others
            yield ("   " if last else "│  ") + "└─ " + _line(commit, trace.send, with_others)


def _line(span: Span, first: Span, what: str) -> str:
    at_ms = (span.start_ns - first.start_ns) / _NS_PER_MS
    took_ms = (span.end_ns - span.start_ns) / _NS_PER_MS
    said = f"  {what}" if what else ""
    return f"{span.name}  [{span.service}]  +{at_ms:,.0f} ms, took {took_ms:,.0f} ms{said}"
