"""The decisions of a settlement: what follows a failed call, what is still ours, what goes on after a refusal."""

from __future__ import annotations

from typing import Any

import pytest
from worker_parts import NAMES, NOW_MS, P5, completed, delivery, lease_of, task

from fairlane.consumer.delivery import Assigned, Unreadable
from fairlane.consumer.outcome import (
    Completed,
    Dead,
    Deferred,
    Expired,
    HandedBack,
    Malformed,
    OutboxRecord,
    Outcome,
    Retrying,
)
from fairlane.consumer.settlement import (
    OF_THE_RECORD,
    THRIFT_MAX,
    TOO_LARGE,
    Call,
    ErrorFlags,
    Next,
    Refusal,
    Settling,
    after,
    halves,
    is_lost_for_good,
    spared,
    still_ours,
)
from fairlane.topics.events import ErrorInfo

AGAIN, ABORT, GIVE_UP = Next.AGAIN, Next.ABORT, Next.GIVE_UP
OWN = frozenset({NAMES.status, NAMES.replies, NAMES.dlq, "shop.p5", "shop.retry-5s"})


def flags(*named: str) -> ErrorFlags:
    return ErrorFlags("SOME_ERROR", **dict.fromkeys(named, True))


@pytest.mark.parametrize(
    ("call", "error", "open_s", "follows"),
    [
        # An error that passes by itself: the same call again, whichever it was.
        (Call.BEGIN, flags("retriable"), 0.1, AGAIN),
        (Call.SEND_OFFSETS, flags("retriable"), 0.1, AGAIN),
        (Call.COMMIT, flags("retriable"), 0.1, AGAIN),
        # COORDINATOR_LOAD_IN_PROGRESS at an abort, under a broker failure: giving up here cost all that was unsettled.
        (Call.ABORT, flags("retriable"), 0.1, AGAIN),
        # An error may say both; what requires an abort never succeeds when it is called again.
        (Call.COMMIT, flags("retriable", "requires_abort"), 0.1, ABORT),
        (Call.SEND_OFFSETS, flags("requires_abort"), 0.1, ABORT),
        # A producer whose last transaction failed behind its back says so at the next beginning.
        (Call.BEGIN, flags("requires_abort"), 0.1, ABORT),
        # There is no abort of an abort: it is made again, or the producer can do no more.
        (Call.ABORT, flags("retriable", "requires_abort"), 0.1, AGAIN),
        (Call.ABORT, flags("requires_abort"), 0.1, GIVE_UP),
        (Call.ABORT, flags(), 0.1, GIVE_UP),
        # Fenced, or failed for good: nothing else counts.
        (Call.BEGIN, flags("fatal"), 0.1, GIVE_UP),
        (Call.COMMIT, flags("fatal", "retriable", "requires_abort"), 0.1, GIVE_UP),
        (Call.ABORT, flags("fatal", "retriable"), 0.1, GIVE_UP),
        # Without a flag nothing is known to be written: an abort makes sure.
        (Call.COMMIT, flags(), 0.1, ABORT),
        (Call.SEND_OFFSETS, flags(), 0.1, ABORT),
        # At the beginning there is nothing to abort: the producer is not in the state that we think it is in.
        (Call.BEGIN, flags(), 0.1, GIVE_UP),
        # The broker has aborted what is older than its timeout: whatever the error says, this producer is over.
        (Call.COMMIT, flags("retriable"), 9.9, AGAIN),
        (Call.SEND_OFFSETS, flags("retriable"), 10.0, GIVE_UP),
        (Call.COMMIT, flags("requires_abort"), 10.0, GIVE_UP),
        (Call.ABORT, flags("retriable"), 9.9, AGAIN),
        (Call.ABORT, flags("retriable"), 10.0, GIVE_UP),
    ],
)
def test_what_follows_a_failed_call_goes_by_the_flags_of_its_error(
    call: Call, error: ErrorFlags, open_s: float, follows: Next
) -> None:
    assert after(call, error, open_s=open_s) is follows


def test_what_the_lease_does_not_hold_is_somebody_elses() -> None:
    ours, theirs = Settling(completed(1)), Settling(completed(2, assigned=Assigned("shop.p5", 1, 2)))
    older = Settling(completed(3, assigned=Assigned("shop.p5", 0, 0)))
    assert still_ours([ours, theirs, older], lease_of(P5)) == ([ours], [theirs, older])


def test_halves_are_the_whole_in_order() -> None:
    batch = [Settling(completed(offset)) for offset in range(5)]
    first, second = halves(batch)
    assert [*first, *second] == batch
    assert first
    assert second


def refused(topic: str, code: str = "MSG_SIZE_TOO_LARGE", *, outcome: int = 0) -> Refusal:
    return Refusal(outcome, topic, code, "Broker: no")


def spare(outcome: Outcome | Settling, topic: str, code: str = "MSG_SIZE_TOO_LARGE") -> Settling | None:
    """What a batch of one becomes when Kafka refuses its record on a topic."""
    settling = outcome if isinstance(outcome, Settling) else Settling(outcome)
    mended = spared([settling], [refused(topic, code)], OWN, NAMES)
    return mended[0] if mended is not None else None


def with_outbox(topic: str) -> Completed:
    return Completed(delivery(), NOW_MS - 10, NOW_MS, b"1", (OutboxRecord(topic, b"x"),))


RETRYING = Retrying(delivery(), NOW_MS - 10, NOW_MS, task(attempt=2), ErrorInfo("OSError", "no route"))
DEAD = Dead(delivery(), NOW_MS - 10, NOW_MS, "fatal", ErrorInfo("ValueError", "bad", "traceback"))
MALFORMED = Malformed(Unreadable(P5, 7, None, b"\xff", ()), "no JSON", NOW_MS)


@pytest.mark.parametrize(
    "code",
    [
        "TOPIC_AUTHORIZATION_FAILED",
        "UNKNOWN_TOPIC_OR_PART",
        "_UNKNOWN_TOPIC",
        "TOPIC_EXCEPTION",
        *sorted(OF_THE_RECORD),
    ],
)
def test_a_refused_record_of_the_outbox_is_the_handlers_doing_whatever_the_reason(code: str) -> None:
    mended = spare(with_outbox("audit-log"), "audit-log", code)
    assert mended is not None
    dead = mended.outcome
    assert isinstance(dead, Dead)
    assert (dead.reason, dead.delivery, dead.started_ms) == ("outbox_failed", delivery(), NOW_MS - 10)
    assert dead.error is not None
    assert dead.error.type == code
    assert "audit-log" in dead.error.message


def test_an_outbox_record_to_a_lane_of_the_queue_is_the_handlers_doing_if_it_is_too_large() -> None:
    mended = spare(with_outbox("shop.p5"), "shop.p5")
    assert mended is not None
    assert isinstance(mended.outcome, Dead)
    assert mended.outcome.reason == "outbox_failed"


@pytest.mark.parametrize("topic", [NAMES.status, NAMES.replies])
@pytest.mark.parametrize("code", sorted(TOO_LARGE))
def test_a_result_that_is_too_large_for_its_topic_makes_its_task_dead(topic: str, code: str) -> None:
    mended = spare(completed(), topic, code)
    assert mended is not None
    assert isinstance(mended.outcome, Dead)
    assert mended.outcome.reason == "result_too_large"


@pytest.mark.parametrize("outcome", [completed(), with_outbox("shop.p5"), RETRYING, DEAD, MALFORMED])
@pytest.mark.parametrize("topic", [NAMES.status, NAMES.dlq, "shop.p5", "shop.retry-5s"])
@pytest.mark.parametrize("code", ["UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "TOPIC_AUTHORIZATION_FAILED"])
def test_a_missing_topic_or_right_of_our_own_is_mended_by_an_operator_and_nothing_is_dropped(
    outcome: Outcome, topic: str, code: str
) -> None:
    assert spare(outcome, topic, code) is None


@pytest.mark.parametrize("code", ["_UNKNOWN_PARTITION", "UNKNOWN_TOPIC_OR_PART", "TOPIC_AUTHORIZATION_FAILED"])
@pytest.mark.parametrize("outcome", [completed(), DEAD])
def test_a_reply_that_cannot_be_written_is_left_out_since_its_status_tells_the_same(
    outcome: Outcome, code: str
) -> None:
    """`fairlane-reply-to` is the word of a client: one that names a partition too high must not stop a queue."""
    mended = spare(outcome, NAMES.replies, code)
    assert mended == Settling(outcome, mute=True)
    assert mended is not None
    assert spare(mended, NAMES.replies, code) is None, "without the reply it cannot be the reply"


def test_a_retry_that_is_too_large_for_its_tier_is_dead_with_its_own_error() -> None:
    mended = spare(RETRYING, "shop.retry-5s")
    assert mended is not None
    assert mended.outcome == Dead(RETRYING.delivery, RETRYING.started_ms, NOW_MS, "max_attempts", RETRYING.error)


@pytest.mark.parametrize("outcome", [Deferred(delivery(), NOW_MS), HandedBack(delivery(), NOW_MS)])
def test_a_task_that_is_too_large_to_go_on_is_dead_and_not_tried_for_ever(outcome: Outcome) -> None:
    mended = spare(outcome, "shop.retry-5s")
    assert mended is not None
    assert isinstance(mended.outcome, Dead)
    assert mended.outcome.reason == "fatal"
    assert mended.outcome.error is not None
    assert "shop.retry-5s" in mended.outcome.error.message


@pytest.mark.parametrize("outcome", [DEAD, MALFORMED, Expired(delivery(), NOW_MS)])
def test_a_letter_that_is_too_large_becomes_smaller_step_by_step_and_is_left_out_in_the_end(outcome: Outcome) -> None:
    settling: Settling | None = Settling(outcome)
    ladder = []
    while settling is not None:
        ladder.append((settling.thrift, is_lost_for_good(settling)))
        settling = spare(settling, NAMES.dlq)
    assert ladder == [(0, False), (1, False), (2, False), (THRIFT_MAX, True)]


def test_only_the_refused_outcome_is_replaced() -> None:
    batch = [Settling(completed(1)), Settling(with_outbox("audit-log")), Settling(completed(3))]
    mended = spared(batch, [refused("audit-log", "_UNKNOWN_TOPIC", outcome=1)], OWN, NAMES)
    assert mended is not None
    assert (mended[0], mended[2]) == (batch[0], batch[2])
    assert mended[1] != batch[1]


def test_of_several_refusals_those_that_can_be_mended_are() -> None:
    batch = [Settling(completed(1)), Settling(with_outbox("audit-log"))]
    refusals = [refused(NAMES.status, "UNKNOWN_TOPIC_OR_PART"), refused("audit-log", "_UNKNOWN_TOPIC", outcome=1)]
    mended = spared(batch, refusals, OWN, NAMES)
    assert mended is not None
    assert mended[0] == batch[0]
    assert mended[1] != batch[1]


def test_without_a_refusal_there_is_nothing_to_mend() -> None:
    assert spared([Settling(completed())], [], OWN, NAMES) is None


def test_an_outcome_that_was_mended_fits_or_comes_to_an_end() -> None:
    """However often Kafka refuses: a batch is never mended for ever, or it would block all that follows."""
    outcomes: list[Any] = [completed(), with_outbox("x"), RETRYING, DEAD, MALFORMED]
    outcomes += [Deferred(delivery(), NOW_MS), HandedBack(delivery(), NOW_MS), Expired(delivery(), NOW_MS)]
    for outcome in outcomes:
        for topic in (NAMES.status, NAMES.replies, NAMES.dlq, "shop.retry-5s", "x"):
            settling: Settling | None = Settling(outcome)
            steps = 0
            while settling is not None:
                settling = spare(settling, topic)
                steps += 1
                assert steps < 10, f"{outcome} on {topic}"
