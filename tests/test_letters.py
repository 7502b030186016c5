"""What a dead letter carries, and that a replay takes off exactly what made it a letter."""

from __future__ import annotations

import msgspec
import pytest
from records import APPENDED_MS, BINARY, read, read_from_tier, with_header

from fairlane.topics import wire
from fairlane.topics.events import ErrorInfo, Reason
from fairlane.topics.headers import KIP_1191, LETTER, MAX_NUMBER, NUMBERS, Headers
from fairlane.topics.task import Task

ERROR = ErrorInfo("ValueError", "no such address", "Traceback …\nValueError: no such address")
NOW_MS = APPENDED_MS + 100_000


def letter(
    headers: Headers | None,
    task: Task | None,
    *,
    reason: Reason = "max_attempts",
    error: ErrorInfo | None = ERROR,
) -> list[tuple[str, bytes | None]]:
    return wire.dead_letter(
        headers,
        task=task,
        reason=reason,
        error=error,
        topic="shop.retry-1m",
        partition=1,
        offset=3,
        group="fairlane-shop",
        now_ms=NOW_MS,
    )


def test_a_letter_has_the_headers_of_the_record_and_the_reason_in_both_vocabularies() -> None:
    task = msgspec.structs.replace(read(), attempt=3, worker_lost=1, handbacks=1, first_failed_ms=APPENDED_MS)
    headers = letter(BINARY, task)
    assert headers[: len(BINARY)] == list(BINARY)
    assert dict(headers[len(BINARY) :]) == {
        "fairlane-priority": b"5",
        "fairlane-lane": b"shop.p5",
        "fairlane-origin": b"shop.p5/7/42",
        "fairlane-attempt": b"3",
        "fairlane-worker-lost": b"1",
        "fairlane-handbacks": b"1",
        "fairlane-enqueued-ms": b"%d" % task.enqueued_ms,
        "fairlane-first-failed-ms": b"%d" % APPENDED_MS,
        "fairlane-last-failed-ms": b"%d" % NOW_MS,
        "fairlane-reason": b"max_attempts",
        "fairlane-error-type": b"ValueError",
        "fairlane-error-message": b"no such address",
        "fairlane-traceback": ERROR.traceback.encode(),
        "fairlane-original-topic": b"shop.retry-1m",
        "fairlane-original-partition": b"1",
        "fairlane-original-offset": b"3",
        "__dlq.errors.topic": b"shop.retry-1m",
        "__dlq.errors.partition": b"1",
        "__dlq.errors.offset": b"3",
        "__dlq.errors.group": b"fairlane-shop",
        "__dlq.errors.delivery.count": b"5",
        "__dlq.errors.message": b"no such address",
    }


def test_a_letter_of_a_record_that_is_no_task_keeps_even_its_bad_headers() -> None:
    bad = (*BINARY, ("fairlane-attempt", b"abc"))
    headers = letter(bad, None, reason="malformed", error=ErrorInfo("MalformedRecord", "fairlane-attempt is b'abc'"))
    assert headers[: len(bad)] == list(bad)
    found = dict(headers)
    assert found["fairlane-origin"] == b"shop.retry-1m/1/3"
    assert found["fairlane-reason"] == b"malformed"


def test_a_letter_of_garbage_without_headers_still_says_why_and_whence() -> None:
    found = dict(letter(None, None, reason="malformed", error=None))
    assert found["__dlq.errors.message"] == b"malformed"
    assert found["fairlane-original-offset"] == b"3"


def test_a_malformed_record_of_a_tier_keeps_the_origin_it_has() -> None:
    assert letter([("fairlane-origin", b"shop.p1/0/9")], None).count(("fairlane-origin", b"shop.p1/0/9")) == 1


def test_long_texts_are_cut_between_characters_the_traceback_at_its_beginning() -> None:
    error = ErrorInfo("E" * 9_999, "é" * 9_999, "ü" * 9_999 + "ValueError: the end")
    found = dict(letter(BINARY, read(), error=error))
    message, traceback = found["fairlane-error-message"] or b"", found["fairlane-traceback"] or b""
    assert (len(message), message.decode()[:1]) == (2_048, "é")
    assert len(traceback) <= 8 * 1_024
    assert traceback.decode().endswith("ü" + "ValueError: the end")


def test_a_message_with_a_lone_surrogate_does_not_stop_the_letter() -> None:
    assert dict(letter(BINARY, read(), error=ErrorInfo("E", "\udce9")))["fairlane-error-message"] == b"\\udce9"


def test_a_letter_that_dies_again_has_each_reason_once() -> None:
    once = letter(BINARY, read())
    twice = [name for name, _ in letter(once, read_from_tier(once)) if name.startswith("fairlane-")]
    assert sorted(twice) == sorted(set(twice))


def test_a_replay_takes_off_the_letter_resets_the_attempts_and_keeps_the_origin() -> None:
    task = msgspec.structs.replace(read(), attempt=3, worker_lost=2, handbacks=1, not_before_ms=NOW_MS, max_attempts=3)
    headers = wire.replay(letter(BINARY, task))
    assert not {name for name, _ in headers} & {header.name for header in LETTER + KIP_1191}
    again = read_from_tier(headers)
    fresh = {"attempt": 1, "worker_lost": 0, "handbacks": 0, "not_before_ms": 0, "replays": 1}
    assert again == msgspec.structs.replace(task, **fresh)


def test_each_replay_counts_one_more_and_a_count_that_is_garbage_starts_again() -> None:
    assert ("fairlane-replays", b"8") in wire.replay([("fairlane-replays", b"7")])
    assert ("fairlane-replays", b"1") in wire.replay([("fairlane-replays", b"-x")])
    largest = ("fairlane-replays", b"%d" % MAX_NUMBER)
    assert largest in wire.replay([largest])


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, field, _ in NUMBERS])
def test_a_number_that_a_producer_set_to_the_largest_can_be_counted_up_and_still_be_read(name: str, field: str) -> None:
    """Only the record that we write next would be malformed: a task nobody could retry, bury or replay."""
    task = read(with_header(name, b"%d" % MAX_NUMBER))
    one_more = msgspec.structs.replace(task, **{field: MAX_NUMBER + 1})
    assert read_from_tier(wire.hop(one_more)) == task
    assert getattr(read_from_tier(letter(BINARY, one_more)), field) == MAX_NUMBER


def test_a_replay_of_an_expired_task_has_no_expiry_and_of_any_other_keeps_it() -> None:
    task = msgspec.structs.replace(read(), expires_ms=NOW_MS)
    assert read_from_tier(wire.replay(letter(BINARY, task, reason="expired"))).expires_ms == 0
    assert read_from_tier(wire.replay(letter(BINARY, task))).expires_ms == NOW_MS


def test_a_record_that_came_from_another_dlq_gets_its_own_headers_of_that_back() -> None:
    foreign = (*BINARY, ("__dlq.errors.topic", b"payments"), ("__dlq.errors.message", b"boom"))
    back = wire.replay(letter(foreign, read(foreign)))
    assert back[: len(foreign)] == list(foreign)


def test_a_replay_of_a_malformed_record_gives_it_back_unchanged_but_for_the_count_and_origin() -> None:
    bad = (*BINARY, ("fairlane-priority", b"abc"))
    assert wire.replay(letter(bad, None, reason="malformed")) == [
        *bad,
        ("fairlane-origin", b"shop.retry-1m/1/3"),
        ("fairlane-replays", b"1"),
    ]
