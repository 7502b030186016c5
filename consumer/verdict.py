"""From what a handler did to its outcome: the one place where an exception becomes retried, dead or handed back.

Invariant: every BaseException has an outcome here; none escapes to stop a worker.
"""

from __future__ import annotations

import math
from typing import Final

from msgspec.structs import replace

from fairlane.consumer.child_errors import ChildLost, FromChild, PayloadRefused, is_any_of
from fairlane.consumer.delivery import Delivery
from fairlane.consumer.outcome import Dead, Outcome, Retrying
from fairlane.consumer.retry import RetryPolicy
from fairlane.consumer.signals import Reject, RetryLater
from fairlane.topics.events import ErrorInfo, Reason
from fairlane.topics.exception_text import clean, message_of, trace_of

UNFIT_DELAY_MIN_MS: Final = 5_000
UNFIT_DELAY_MAX_MS: Final = 600_000
DELAY_MAX_S: Final = 366 * 86_400.0
"""The longest wait for the next attempt; what goes on a record is bounded."""
NAME_MAX_CHARS: Final = 200


class AttemptTimeout(TimeoutError):
    """The attempt took longer than its timeout allowed."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"the attempt took longer than {timeout_s:g} s")
        self.timeout_s = timeout_s


class CancelledByOperator(BaseException):
    """An operator cancelled the task while it ran."""


class KilledByOperator(Exception):
    """A kill-switch of its type fits the task, before it began."""


class WrongResults(TypeError):
    """What a handler of batches returned is not a list with one entry for each task. To run it again mends nothing."""

    def __init__(self, returned: str, tasks: int) -> None:
        super().__init__(
            f"a handler of batches returned {returned} for {tasks} tasks: return None, or a list with a result or an "
            "exception for each, in order"
        )


def describe(error: BaseException, *, with_traceback: bool = True) -> ErrorInfo:
    """The error as bounded text. An error whose own text cannot be made has an outcome all the same."""
    if isinstance(error, FromChild):
        return error.info
    trace = trace_of(error) if with_traceback else ""
    return ErrorInfo(clean(type(error).__name__[:NAME_MAX_CHARS]), message_of(error), trace)


def told(error: BaseException) -> ErrorInfo:
    """What a handler raised as bounded text: without a traceback where it only said what is to become of the task."""
    return describe(error, with_traceback=not isinstance(error, Reject | RetryLater))


def failed(
    delivery: Delivery,
    policy: RetryPolicy,
    error: BaseException,
    *,
    started_ms: int,
    now_ms: int,
    unit: float,
    info: ErrorInfo | None = None,
) -> Outcome:
    """The outcome of an attempt that raised.

    Args:
        delivery: what was attempted.
        policy: of the handler.
        error: what it raised.
        started_ms: when the attempt began, Unix ms.
        now_ms: when it ended, Unix ms.
        unit: a random number in [0, 1), for the jitter of the delay.
        info: the error as `told` tells it, where it failed more than this one; None tells it now.
    """
    if isinstance(error, ChildLost):
        return _lost(delivery, policy, error, started_ms=started_ms, now_ms=now_ms, unit=unit)
    if isinstance(error, PayloadRefused):
        return unfit(
            delivery,
            "invalid_payload",
            error.error,
            patience_s=error.patience_s,
            started_ms=started_ms,
            now_ms=now_ms,
        )
    task = delivery.task
    reason: Reason | None = None
    if isinstance(error, Reject):
        reason = "rejected"
    elif not isinstance(error, RetryLater) and not _may_be_retried(error, policy):
        reason = "fatal"
    elif task.attempt >= (task.max_attempts or policy.max_attempts):
        reason = "max_attempts"
    info = info or told(error)
    if reason is not None:
        return Dead(delivery, started_ms, now_ms, reason, info)
    delay_s = asked_delay_s(error)
    if delay_s is None:
        delay_s = policy.next_delay(task.attempt, unit)
    again = replace(
        delivery.kept,
        attempt=task.attempt + 1,
        not_before_ms=now_ms + round(min(delay_s, DELAY_MAX_S) * 1000),
        first_failed_ms=task.first_failed_ms or now_ms,
        unfit_since_ms=0,
    )
    return Retrying(delivery, started_ms, now_ms, again, info)


def _lost(
    delivery: Delivery, policy: RetryPolicy, error: ChildLost, *, started_ms: int, now_ms: int, unit: float
) -> Outcome:
    """The outcome of an attempt whose process is gone: it costs no attempt, and only so many may be lost."""
    counted = replace(delivery, losses=delivery.losses + 1)
    task = counted.kept
    if task.worker_lost >= error.losses_max:
        return Dead(counted, started_ms, now_ms, "worker_lost", error.info)
    delay_s = policy.next_delay(task.worker_lost, unit)
    again = replace(
        task,
        not_before_ms=now_ms + round(min(delay_s, DELAY_MAX_S) * 1000),
        first_failed_ms=task.first_failed_ms or now_ms,
        unfit_since_ms=0,
    )
    return Retrying(delivery, started_ms, now_ms, again, error.info)


def asked_delay_s(error: BaseException) -> float | None:
    """The delay that a handler asks for; None where it asks for none, or for one that is no time."""
    if not isinstance(error, RetryLater) or error.delay_s is None:
        return None
    try:
        delay_s = float(error.delay_s)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if math.isnan(delay_s) else max(0.0, delay_s)


def _may_be_retried(error: BaseException, policy: RetryPolicy) -> bool:
    if isinstance(error, WrongResults) or is_any_of(error, policy.fatal):
        return False
    # SystemExit, KeyboardInterrupt and their like, raised by a handler, are that handler's failure like any other.
    return is_any_of(error, policy.retry_on) or not is_any_of(error, (Exception,))


def unfit(
    delivery: Delivery, reason: Reason, error: Exception, *, patience_s: float, started_ms: int, now_ms: int
) -> Outcome:
    """The outcome of a task that this worker cannot run: it has no handler, or its handler does not know the payload.

    A newer worker may be on its way, so the task waits in tiers, each time as long as it has waited so far, and is dead
    when `patience_s` is over. No handler ran, so it costs no attempt.

    Args:
        delivery: what was to be attempted.
        reason: what it is dead of in the end.
        error: says what is missing.
        patience_s: how long a newer worker may take to come, seconds; 0 is not at all.
        started_ms: when it was looked at, Unix ms.
        now_ms: the same for now.
    """
    task = delivery.task
    # Anybody can write a header: a time to come would be waited for.
    since_ms = min(task.unfit_since_ms or now_ms, now_ms)
    waited_ms = now_ms - since_ms
    info = describe(error, with_traceback=False)
    if waited_ms >= patience_s * 1000:
        return Dead(delivery, started_ms, now_ms, reason, info)
    delay_ms = round(min(max(waited_ms, UNFIT_DELAY_MIN_MS), UNFIT_DELAY_MAX_MS, patience_s * 1000 - waited_ms))
    again = replace(delivery.kept, not_before_ms=now_ms + delay_ms, unfit_since_ms=since_ms)
    return Retrying(delivery, started_ms, now_ms, again, info)


class TaskExpired(Exception):
    """The task's time was over before an attempt could start."""

    def __init__(self, late_ms: int) -> None:
        super().__init__(f"it expired {late_ms} ms before it could start")


class ResultTooLarge(Exception):
    """The handler returned more than a result may have."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"the result has {size_bytes} bytes, the limit is {limit_bytes}")


class WorkerLost(Exception):
    """Workers died while they ran the task, as many as may."""

    def __init__(self, losses: int) -> None:
        super().__init__(f"{losses} workers died while they ran it")


class NoHandler(Exception):
    """The worker has no handler for the task's type; a newer worker may have one."""

    def __init__(self, task_type: str, known: tuple[str, ...]) -> None:
        shown = ", ".join(known[:10]) or "none"
        super().__init__(f"no handler for task type {task_type!r} in this worker (it has: {shown})")
