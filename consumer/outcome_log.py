"""What the log says of attempts that went wrong.

Invariant: it goes through the user's handlers and filters, so whoever calls it has nothing left to do that must not be
lost, or holds what it raises.
"""

from __future__ import annotations

import logging

from fairlane.consumer.outcome import Cancelled, Dead, Outcome, Retrying, traceparent_of
from fairlane.topics import exception_text, tracing
from fairlane.topics.events import ErrorInfo

_logger = logging.getLogger("fairlane.executor")


def tell(outcome: Outcome) -> None:
    """Log it if it is one of a failure."""
    if not isinstance(outcome, Retrying | Dead):
        if isinstance(outcome, Cancelled):
            task = outcome.delivery.task
            _logger.info("%s was cancelled %s", task.type, outcome.reason, extra={"task_id": task.id})
        return
    task, error = outcome.delivery.task, outcome.error
    _logger.log(
        logging.ERROR if isinstance(outcome, Dead) else logging.WARNING,
        "%s %s (attempt %d): %s",
        task.type,
        f"is dead ({outcome.reason})" if isinstance(outcome, Dead) else "failed and will be retried",
        task.attempt,
        _said(error) if error else "",
        extra={"task_id": task.id, "task_type": task.type, "attempt": task.attempt, **_trace_of(outcome)},
    )


def _said(error: ErrorInfo) -> str:
    return f"{error.type}: {error.message}" if exception_text.is_shown() else error.type


def _trace_of(outcome: Outcome) -> dict[str, str]:
    """What the log names of the attempt's trace: its span is over, so it is not current any more."""
    traceparent = traceparent_of(outcome)
    if not traceparent:
        return {}
    return {"trace_id": tracing.trace_id(traceparent), "span_id": tracing.span_id(traceparent)}
