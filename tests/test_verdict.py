"""From what a handler did to its outcome: every exception has one."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from worker_parts import NOW_MS, delivery

from fairlane.consumer.outcome import Dead, Outcome, Retrying
from fairlane.consumer.retry import RetryPolicy
from fairlane.consumer.signals import Reject, RetryLater
from fairlane.consumer.verdict import (
    DELAY_MAX_S,
    NAME_MAX_CHARS,
    AttemptTimeout,
    NoHandler,
    describe,
    failed,
    unfit,
)
from fairlane.topics import events
from fairlane.topics.events import StatusEvent
from fairlane.topics.exception_text import MESSAGE_MAX_CHARS, TRACE_MAX_CHARS

POLICY = RetryPolicy(max_attempts=3, base_s=5, factor=2, jitter=0, retry_on=(OSError,), fatal=(FileNotFoundError,))
STARTED_MS = NOW_MS - 10


def judged(error: BaseException, policy: RetryPolicy = POLICY, **task: Any) -> Outcome:
    return failed(delivery(**task), policy, error, started_ms=STARTED_MS, now_ms=NOW_MS, unit=0.5)


def delay_s(outcome: Outcome) -> float:
    assert isinstance(outcome, Retrying)
    return (outcome.task.not_before_ms - NOW_MS) / 1000


@pytest.mark.parametrize(
    ("error", "task", "reason"),
    [
        # What the policy retries is tried again until its last attempt.
        (OSError(), {"attempt": 1}, None),
        (OSError(), {"attempt": 2}, None),
        (OSError(), {"attempt": 3}, "max_attempts"),
        (ConnectionResetError(), {"attempt": 1}, None),
        # What it does not retry is fatal at once, and so is what it calls fatal though it is in `retry_on`.
        (ValueError(), {"attempt": 1}, "fatal"),
        (FileNotFoundError(), {"attempt": 1}, "fatal"),
        # Fatal is said rather than that the attempts are over: it says more.
        (ValueError(), {"attempt": 3}, "fatal"),
        # The handler's own word counts most: rejected whatever the policy, later whatever the policy.
        (Reject("no such customer"), {"attempt": 1}, "rejected"),
        (RetryLater(60, "busy"), {"attempt": 1}, None),
        (RetryLater(60, "busy"), {"attempt": 3}, "max_attempts"),
        (RetryLater(), {"attempt": 1}, None),
        # The limit of the task comes before that of the policy, in both directions.
        (OSError(), {"attempt": 1, "max_attempts": 1}, "max_attempts"),
        (OSError(), {"attempt": 3, "max_attempts": 5}, None),
        (RetryLater(60), {"attempt": 2, "max_attempts": 2}, "max_attempts"),
        # Our own timeout is an OSError by Python's tree, and retried as such.
        (AttemptTimeout(30), {"attempt": 1}, None),
        # What is no Exception is worth another attempt whatever `retry_on` says: it is not about the task.
        (SystemExit(1), {"attempt": 1}, None),
        (KeyboardInterrupt(), {"attempt": 1}, None),
        (GeneratorExit(), {"attempt": 1}, None),
        (asyncio.CancelledError(), {"attempt": 1}, None),
        (SystemExit(1), {"attempt": 3}, "max_attempts"),
    ],
)
def test_an_exception_is_retried_or_dead_for_a_reason(
    error: BaseException, task: dict[str, Any], reason: str | None
) -> None:
    outcome = judged(error, **task)
    if reason is None:
        assert isinstance(outcome, Retrying)
    else:
        assert isinstance(outcome, Dead)
        assert outcome.reason == reason
    assert outcome.error is not None
    assert outcome.error.type == type(error).__name__
    assert (outcome.started_ms, outcome.finished_ms) == (STARTED_MS, NOW_MS)


def test_what_is_no_exception_can_be_called_fatal() -> None:
    outcome = judged(SystemExit(1), RetryPolicy(fatal=(SystemExit,)))
    assert isinstance(outcome, Dead)
    assert outcome.reason == "fatal"


def test_the_next_attempt_comes_after_the_delay_of_the_policy() -> None:
    assert delay_s(judged(OSError(), attempt=1)) == 5
    assert delay_s(judged(OSError(), attempt=2)) == 10


def test_a_handler_may_choose_its_delay() -> None:
    assert delay_s(judged(RetryLater(1.5))) == 1.5
    assert delay_s(judged(RetryLater(0))) == 0
    assert delay_s(judged(RetryLater(None))) == 5, "the policy's"


@pytest.mark.parametrize(
    ("asked", "given_s"),
    [
        (-5, 0),  # the past is now
        (math.inf, DELAY_MAX_S),  # a record carries 15 digits at most, or its task would come back malformed
        (10**400, 5),  # no number that a float can be: the policy's
        (math.nan, 5),  # no time at all
        ("soon", 5),
    ],
)
def test_a_delay_that_is_no_time_is_no_reason_to_lose_the_task(asked: Any, given_s: float) -> None:
    assert delay_s(judged(RetryLater(asked))) == given_s


def test_a_policy_may_be_generous_but_not_beyond_what_a_record_can_say() -> None:
    assert delay_s(judged(OSError(), RetryPolicy(base_s=1e300, max_s=1e300))) == DELAY_MAX_S


def test_the_next_attempt_is_the_same_task_with_what_happened_to_it() -> None:
    outcome = judged(OSError(), attempt=2, worker_lost=1, losses=1, first_failed_ms=17, handbacks=3)
    assert isinstance(outcome, Retrying)
    again = outcome.task
    assert (again.attempt, again.worker_lost, again.handbacks, again.first_failed_ms) == (3, 2, 3, 17)
    assert (again.id, again.payload, again.origin) == (outcome.delivery.task.id, b"{}", outcome.delivery.task.origin)


def test_the_first_failure_is_remembered() -> None:
    outcome = judged(OSError())
    assert isinstance(outcome, Retrying)
    assert outcome.task.first_failed_ms == NOW_MS


def test_an_attempt_that_ran_ends_the_wait_for_a_worker_that_can() -> None:
    outcome = judged(OSError(), unfit_since_ms=NOW_MS - 60_000)
    assert isinstance(outcome, Retrying)
    assert outcome.task.unfit_since_ms == 0


def raised(error: BaseException) -> BaseException:
    """The error with a traceback."""
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001
        return caught


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


class OddError(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class DeadlyError(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


@pytest.mark.parametrize("error", [SilentError(), OddError(), DeadlyError()])
def test_an_error_whose_own_text_cannot_be_made_has_an_outcome_all_the_same(error: Exception) -> None:
    outcome = judged(raised(error))
    assert isinstance(outcome, Dead)
    assert outcome.error is not None
    assert outcome.error.type == type(error).__name__
    assert "could not be made" in outcome.error.message


def test_a_message_is_cut_and_so_is_a_traceback_at_its_beginning_and_a_name() -> None:
    loud = type("E" * 100_000, (Exception,), {})
    info = describe(raised(loud("m" * 5_000_000)))
    assert len(info.message) == MESSAGE_MAX_CHARS
    assert len(info.traceback) == TRACE_MAX_CHARS + 1
    assert len(info.type) == NAME_MAX_CHARS


def test_a_traceback_says_where_it_happened() -> None:
    assert "in raised" in describe(raised(ValueError("here"))).traceback
    assert describe(raised(ValueError("here"))).traceback.endswith("ValueError: here\n")


def test_text_that_utf8_cannot_say_does_not_stop_the_settlement() -> None:
    info = describe(raised(OSError("\ud800 \udcff.txt")))
    event = events.encode(StatusEvent(id="a", type="b", state="failed", error=info))
    decoded = events.decode_status(event)
    assert decoded is not None
    assert decoded.error == info


@pytest.mark.parametrize("signal", [Reject("no"), RetryLater(1, "busy")])
def test_a_signal_is_no_failure_and_has_no_traceback(signal: Exception) -> None:
    outcome = judged(raised(signal))
    assert isinstance(outcome, Dead | Retrying)
    assert outcome.error is not None
    assert outcome.error.traceback == ""
    assert outcome.error.message in ("no", "busy")


def test_a_cause_that_leads_back_to_itself_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert "first" in describe(raised(first)).traceback


# A task that this worker cannot run.


def unfitting(patience_s: float = 3_600, *, now_ms: int = NOW_MS, **task: Any) -> Outcome:
    error = NoHandler("send", ("other",))
    return unfit(delivery(**task), "no_handler", error, patience_s=patience_s, started_ms=now_ms, now_ms=now_ms)


def test_a_task_that_nobody_here_knows_waits_for_a_newer_worker_at_no_attempts_cost() -> None:
    outcome = unfitting(attempt=2)
    assert isinstance(outcome, Retrying)
    assert (outcome.task.attempt, outcome.task.unfit_since_ms, outcome.task.first_failed_ms) == (2, NOW_MS, 0)
    assert delay_s(outcome) == 5
    assert outcome.error is not None
    assert "it has: other" in outcome.error.message


def test_it_waits_each_time_as_long_as_it_has_waited_so_far_but_ten_minutes_at_most() -> None:
    def next_s(waited_s: int) -> float:
        return delay_s(unfitting(unfit_since_ms=NOW_MS - waited_s * 1000))

    assert [next_s(waited) for waited in (1, 5, 40, 599, 2_000)] == [5, 5, 40, 599, 600]


def test_it_never_waits_beyond_the_patience_and_is_dead_then() -> None:
    assert delay_s(unfitting(unfit_since_ms=NOW_MS - 3_599_000)) == 1
    outcome = unfitting(unfit_since_ms=NOW_MS - 3_600_000)
    assert isinstance(outcome, Dead)
    assert outcome.reason == "no_handler"


def test_without_patience_it_is_dead_at_once() -> None:
    assert isinstance(unfitting(0), Dead)


def test_a_failure_of_long_ago_does_not_shorten_the_patience() -> None:
    """A retry that meets a worker of an older release waits for a newer one, however long it has been failing."""
    assert isinstance(unfitting(attempt=4, first_failed_ms=NOW_MS - 86_400_000), Retrying)


def test_the_whole_wait_takes_few_hops() -> None:
    now_ms, since_ms, hops = NOW_MS, 0, 0
    while True:
        outcome = unfitting(now_ms=now_ms, unfit_since_ms=since_ms)
        if isinstance(outcome, Dead):
            break
        assert isinstance(outcome, Retrying)
        now_ms, since_ms, hops = outcome.task.not_before_ms, outcome.task.unfit_since_ms, hops + 1
    assert now_ms - NOW_MS == 3_600_000
    assert hops < 20
