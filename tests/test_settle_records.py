"""What settling an outcome writes: status, reply, tier, DLQ, outbox, as one table of cases."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from worker_parts import NAMES, NOW_MS, P5, delivery, task

from fairlane.consumer.delivery import Assigned, Delivery, Unreadable
from fairlane.consumer.outcome import (
    Completed,
    Dead,
    Deferred,
    Expired,
    HandedBack,
    Malformed,
    Moved,
    OutboxRecord,
    Outcome,
    Retrying,
)
from fairlane.consumer.retry import AttemptsMax
from fairlane.consumer.settle_records import NO_PARTITION, Record, Settles
from fairlane.consumer.settlement import THRIFT_MAX, Settling
from fairlane.topics import events, wire
from fairlane.topics.events import ErrorInfo, StatusEvent
from fairlane.topics.names import DEFAULT_TIERS
from fairlane.topics.task import Task

SETTLES = Settles(NAMES, DEFAULT_TIERS, "w1", AttemptsMax({"send": 5}))
ERROR = ErrorInfo("OSError", "no route", "Traceback…")
STARTED_MS = NOW_MS - 10
SPAN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def written(outcome: Outcome, thrift: int = 0, *, mute: bool = False) -> list[Record]:
    return SETTLES.records(Settling(outcome, thrift, mute))


def on(topic: str, records: list[Record]) -> Record:
    """The one record on a topic."""
    (found,) = [record for record in records if record.topic == topic]
    return found


def event(records: list[Record], topic: str = NAMES.status) -> StatusEvent:
    """The one status event, read as a monitor reads it."""
    decoded = events.decode_status(on(topic, records).value or b"")
    assert decoded is not None
    return decoded


def headers(record: Record) -> dict[str, bytes | None]:
    return dict(record.headers)


def again(record: Record) -> Task:
    """The task that a hop is, as the next worker reads it."""
    return wire.decode(
        record.topic, 0, 99, NOW_MS, record.key, record.value or b"", record.headers, lane=None, priority=0
    )


def completed(**fields: Any) -> Completed:
    return Completed(delivery(**fields), STARTED_MS, NOW_MS, b'{"sent":true}', traceparent=SPAN)


def retrying(delay_ms: int, **fields: Any) -> Retrying:
    read = delivery(**fields)
    next_task = msgspec.structs.replace(
        read.kept, attempt=read.task.attempt + 1, not_before_ms=NOW_MS + delay_ms if delay_ms else 0
    )
    return Retrying(read, STARTED_MS, NOW_MS, next_task, ERROR)


def dead(**fields: Any) -> Dead:
    return Dead(delivery(**fields), STARTED_MS, NOW_MS, "max_attempts", ERROR)


MALFORMED = Malformed(Unreadable(P5, 7, b"k", b"\xff", (("x", b"y"),)), "no JSON", NOW_MS)


def test_a_completed_attempt_writes_its_result_to_the_status_topic() -> None:
    records = written(completed(attempt=2))
    assert [record.topic for record in records] == [NAMES.status]
    told = event(records)
    assert (told.id, told.type, told.state, told.attempt, told.worker) == ("t-7", "send", "completed", 2, "w1")
    assert (told.topic, told.partition, told.offset, told.lane) == ("shop.p5", 0, 7, "shop.p5")
    assert (told.started_ms, told.finished_ms) == (STARTED_MS, NOW_MS)
    assert bytes(told.result) == b'{"sent":true}'
    assert told.trace_id == "0af7651916cd43dd8448eb211c80319c"


def test_a_status_event_has_the_tasks_id_as_key_and_its_origin_in_a_header() -> None:
    """What is unique is the origin: two records with one id are two tasks."""
    record = on(NAMES.status, written(completed()))
    assert record.key == b"t-7"
    assert headers(record) == {"fairlane-origin": b"shop.p5/0/7"}


def test_the_outbox_is_written_with_the_attempt_that_succeeded_as_the_handler_gave_it() -> None:
    outbox = (OutboxRecord("audit-log", b"1", b"k", (("h", b"v"),)), OutboxRecord("shop.p1", None))
    records = written(Completed(delivery(), STARTED_MS, NOW_MS, b"null", outbox))
    assert records[:2] == [
        Record("audit-log", b"k", b"1", (("h", b"v"),)),
        Record("shop.p1", None, None, ()),
    ]


@pytest.mark.parametrize("outcome", [completed(), dead(), Expired(delivery(), NOW_MS)])
def test_a_terminal_event_goes_to_the_partition_where_its_producer_waits(outcome: Any) -> None:
    asking = msgspec.structs.replace(outcome.delivery.task, reply_to="shop.replies:3")
    outcome = msgspec.structs.replace(outcome, delivery=msgspec.structs.replace(outcome.delivery, task=asking))
    records = written(outcome)
    reply = on(NAMES.replies, records)
    assert (reply.partition, reply.key) == (3, b"t-7")
    assert reply.value == on(NAMES.status, records).value


def test_what_was_moved_is_the_same_task_in_the_partition_that_was_chosen_and_has_no_event() -> None:
    moved = delivery(losses=1, attempt=3, enqueued_ms=NOW_MS - 5_000)
    (record,) = written(Moved(moved, NOW_MS, Assigned("shop.retry-1s", 6, 9)))
    assert (record.topic, record.partition) == ("shop.retry-1s", 6)
    copy = again(record)
    assert (copy.type, copy.attempt, copy.worker_lost, copy.handbacks) == ("send", 3, 1, 0)
    assert (copy.origin, copy.lane, copy.not_before_ms) == (moved.task.origin, "shop.p5", 0)


def test_a_retry_is_no_reply() -> None:
    assert NAMES.replies not in [record.topic for record in written(retrying(5_000, reply_to="shop.replies:3"))]


@pytest.mark.parametrize(
    "reply_to",
    [
        "other.replies:3",  # somebody else's topic: a client must not make a worker write there
        "shop.status:3",  # nor to another one of ours
        "shop.replies:",  # no partition
        "shop.replies:x",  # none either
        "shop.replies:123456",  # higher than any
        "shop.replies",  # only a topic
        "",  # nobody waits
    ],
)
def test_a_reply_goes_only_to_a_partition_of_our_own_replies_topic(reply_to: str) -> None:
    assert [record.topic for record in written(completed(reply_to=reply_to))] == [NAMES.status]


def test_a_mute_outcome_writes_everything_but_its_reply() -> None:
    speaking, mute = (
        written(completed(reply_to="shop.replies:3")),
        written(completed(reply_to="shop.replies:3"), mute=True),
    )
    assert [record for record in speaking if record.partition == NO_PARTITION] == mute
    assert len(speaking) == len(mute) + 1


@pytest.mark.parametrize(
    ("delay_ms", "topic"),
    [
        (0, "shop.p5"),  # due at once: back into its lane
        (300, "shop.retry-1s"),  # shorter than any tier: the shortest, from which it waits in memory
        (5_000, "shop.retry-5s"),
        (59_999, "shop.retry-5s"),  # the largest tier that is not longer
        (3_600_000, "shop.retry-10m"),
        (90_000_000, "shop.retry-1d"),
    ],
)
def test_a_retry_waits_in_the_largest_tier_that_is_not_longer_than_its_delay(delay_ms: int, topic: str) -> None:
    assert written(retrying(delay_ms))[0].topic == topic


def test_a_retry_carries_all_that_the_next_attempt_must_know() -> None:
    records = written(retrying(5_000, key=b"k", attempt=2, losses=1, worker_lost=1, reply_to="shop.replies:3"))
    hop = records[0]
    assert (hop.key, hop.value, hop.partition) == (b"k", b'{"type":"send","payload":{}}', NO_PARTITION)
    told = headers(hop)
    assert told["fairlane-attempt"] == b"3"
    assert told["fairlane-origin"] == b"shop.p5/0/7"
    assert told["fairlane-lane"] == b"shop.p5"
    assert told["fairlane-worker-lost"] == b"2", "the losses of the record and those of its partition's map"
    assert told["fairlane-not-before-ms"] == b"%d" % (NOW_MS + 5_000)
    assert told["fairlane-reply-to"] == b"shop.replies:3"


def test_the_status_of_a_retry_says_why_and_when() -> None:
    told = event(written(retrying(5_000)))
    assert (told.state, told.attempt, told.due_ms, told.error) == ("retrying", 1, NOW_MS + 5_000, ERROR)
    assert told.state not in events.TERMINAL


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, 5),  # the handler's policy
        ({"max_attempts": 2}, 2),  # the task's own
        ({"task_type": "who_knows"}, 0),  # nobody here can say it
    ],
)
def test_an_event_says_how_many_attempts_there_are_and_the_record_only_what_the_task_says(
    fields: Any, told: int
) -> None:
    for outcome in (dead(**fields), completed(**fields), Expired(delivery(**fields), NOW_MS)):
        assert event(written(outcome)).max_attempts == told
    letter = headers(on(NAMES.dlq, written(dead(**fields))))
    assert letter.get("fairlane-max-attempts") == (b"2" if told == 2 else None)


@pytest.mark.parametrize(
    "outcome", [retrying(0, lane="orders", priority=5), HandedBack(delivery(lane="orders", priority=5), NOW_MS)]
)
def test_nothing_is_ever_written_to_somebody_elses_topic_that_is_a_lane(outcome: Outcome) -> None:
    """Its other readers would take the copy for a new record."""
    records = written(outcome)
    assert records[0].topic == "shop.retry-1s"
    assert "orders" not in [record.topic for record in records]


def test_a_dead_task_goes_to_the_dlq_byte_for_byte_with_the_reason() -> None:
    records = written(dead(key=b"k", payload=b"[1]", value=b"[1]", headers=(("x", b"y"),), attempt=5))
    letter = on(NAMES.dlq, records)
    assert (letter.key, letter.value) == (b"k", b"[1]")
    told = headers(letter)
    assert told["x"] == b"y"
    assert (told["fairlane-reason"], told["fairlane-attempt"]) == (b"max_attempts", b"5")
    assert (told["fairlane-error-type"], told["fairlane-traceback"]) == (b"OSError", "Traceback…".encode())
    ended = event(records)
    assert (ended.state, ended.reason, ended.error) == ("failed", "max_attempts", ERROR)


def test_a_letter_counts_the_losses_that_only_the_partitions_map_knew_of() -> None:
    letter = on(NAMES.dlq, written(Dead(delivery(losses=3), NOW_MS, NOW_MS, "worker_lost", ERROR)))
    assert headers(letter)["fairlane-worker-lost"] == b"3"


def test_an_expired_task_was_never_started_and_goes_to_the_dlq() -> None:
    records = written(Expired(delivery(), NOW_MS))
    assert headers(on(NAMES.dlq, records))["fairlane-reason"] == b"expired"
    told = event(records)
    assert (told.state, told.reason, told.started_ms, told.finished_ms) == ("expired", "expired", 0, NOW_MS)


def test_a_task_that_is_not_due_goes_on_without_a_status_and_at_no_attempts_cost() -> None:
    (hop,) = written(Deferred(delivery(not_before_ms=NOW_MS + 7_200_000, attempt=2), NOW_MS))
    assert hop.topic == "shop.retry-2h"
    assert again(hop).attempt == 2


def test_a_task_that_was_handed_back_is_the_same_again_in_its_lane_with_one_hand_back_more() -> None:
    (hop,) = written(HandedBack(delivery(attempt=2, handbacks=1), NOW_MS))
    assert hop.topic == "shop.p5"
    task_again = again(hop)
    assert (task_again.attempt, task_again.handbacks) == (2, 2)


def test_a_record_that_is_no_task_goes_to_the_dlq_untouched_with_what_is_wrong() -> None:
    records = written(MALFORMED)
    letter = on(NAMES.dlq, records)
    assert (letter.key, letter.value) == (b"k", b"\xff")
    told = headers(letter)
    assert (told["x"], told["fairlane-reason"]) == (b"y", b"malformed")
    assert told["fairlane-original-offset"] == b"7"
    ended = event(records)
    assert (ended.id, ended.type, ended.state, ended.reason) == ("shop.p5/0/7", "", "failed", "malformed")


@pytest.mark.parametrize("outcome", [dead(), MALFORMED])
def test_a_letter_under_thrift_leaves_out_the_traceback(outcome: Outcome) -> None:
    letter = on(NAMES.dlq, written(outcome, thrift=1))
    assert "fairlane-traceback" not in headers(letter)


def test_a_letter_under_thrift_cuts_the_message() -> None:
    loud = Dead(delivery(), STARTED_MS, NOW_MS, "fatal", ErrorInfo("E" * 500, "m" * 2_000, "t" * 8_000))
    told = headers(on(NAMES.dlq, written(loud, thrift=1)))
    assert (len(told["fairlane-error-type"] or b""), len(told["fairlane-error-message"] or b"")) == (100, 200)


@pytest.mark.parametrize("outcome", [dead(), Expired(delivery(), NOW_MS), MALFORMED])
def test_after_all_thrift_only_the_status_tells(outcome: Outcome) -> None:
    assert [record.topic for record in written(outcome, thrift=THRIFT_MAX)] == [NAMES.status]


def from_tier(**fields: Any) -> Delivery:
    return Delivery(task(**fields), Assigned("shop.retry-5s", 2, 3), 11, "tiers", 300)


def test_an_event_says_where_the_record_was_read_and_the_header_where_it_came_from() -> None:
    records = written(Completed(from_tier(), STARTED_MS, NOW_MS, b"1"))
    told = event(records)
    assert (told.topic, told.partition, told.offset, told.lane) == ("shop.retry-5s", 2, 11, "shop.p5")
    assert headers(on(NAMES.status, records))["fairlane-origin"] == b"shop.p5/0/7"
