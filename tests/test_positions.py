"""Where reading a partition begins: what is committed, checked against what the log still has."""

from __future__ import annotations

import logging

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from kafka_client_fakes import FakeConsumer
from worker_parts import config

from fairlane.consumer import positions as finding
from fairlane.consumer.positions import Position, Positions, PositionsUnknown, as_before
from fairlane.topics.names import Lane
from fairlane.topics.offset_map import MapTooNew, OffsetMap, encode

LANE = ("shop.p5", 0)


def find(
    committed: int = -1001,
    metadata: str = "",
    *,
    end: int = 100,
    low: int = 0,
    lanes: tuple[Lane, ...] = (),
) -> Position:
    """Where `LANE` begins."""
    consumer = FakeConsumer(committed={LANE: (committed, metadata)}, ends={LANE: end}, lows={LANE: low})
    found = Positions(config(lanes=lanes), consumer.as_consumer()).find([LANE], lambda: False)
    return found[LANE]


def test_what_was_committed_is_where_reading_begins() -> None:
    known = OffsetMap(7, 9, (7, 8), {8: 1})
    assert find(7, encode(known)) == Position(7, 100, known)


def test_a_commit_without_metadata_is_only_an_offset() -> None:
    assert find(7) == Position(7, 100, None)


def test_a_group_without_commits_begins_with_what_the_log_still_has_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert find(low=40) == Position(40, 100, None)
    assert "no committed offsets" in caplog.text


def test_an_empty_partition_without_commits_is_nothing_to_speak_of(caplog: pytest.LogCaptureFixture) -> None:
    assert find(end=0) == Position(0, 0, None)
    assert caplog.text == ""


def test_a_lane_may_say_that_its_past_is_not_wanted() -> None:
    assert find(lanes=(Lane("shop.p5", 5, 1, start="latest"),)) == Position(100, 100, None)


def test_metadata_of_somebody_else_or_damaged_is_ignored_and_said(caplog: pytest.LogCaptureFixture) -> None:
    assert find(7, "somebody else's") == Position(7, 100, None)
    assert "not fairlane's, or damaged" in caplog.text


def test_a_map_of_a_newer_version_is_refused_rather_than_ignored() -> None:
    with pytest.raises(MapTooNew, match=r"the offset map of .*/0 is of version 2"):
        find(7, "fl2:AAAA")


def test_a_map_that_speaks_of_offsets_past_the_end_is_not_trusted(caplog: pytest.LogCaptureFixture) -> None:
    assert find(7, encode(OffsetMap(7, 200, (7,)))) == Position(7, 100, None)
    assert "past the log's end" in caplog.text


def test_a_log_that_ends_before_the_commit_was_made_anew_and_is_read_from_its_beginning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert find(700, encode(OffsetMap(700, 699)), end=100, low=3) == Position(3, 100, None)
    assert caplog.records[-1].levelno == logging.ERROR


def test_records_that_were_deleted_before_they_were_read_are_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    known = OffsetMap(7, 50, (7, 20, 40), {20: 1, 40: 2})
    assert find(7, encode(known), low=30) == Position(30, 100, OffsetMap(30, 50, (40,), {40: 2}))
    assert "records were deleted before they were read" in caplog.text


def test_a_log_that_begins_after_all_that_the_map_knows_still_says_how_its_owner_left() -> None:
    known = OffsetMap(7, 9, (7,), {60: 1}, clean=False)
    assert find(7, encode(known), low=30) == Position(30, 100, OffsetMap(30, 29, (), {60: 1}))


def test_kafka_is_asked_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "BACKOFF_S", 0)
    consumer = FakeConsumer(committed={LANE: (7, "")}, ends={LANE: 9})
    answers = [KafkaException(KafkaError(KafkaError._TIMED_OUT)), KafkaException(KafkaError(KafkaError._WAIT_COORD))]
    committed = consumer.committed

    def slow(places: list[TopicPartition], timeout: float = 0) -> list[TopicPartition]:
        if answers:
            raise answers.pop()
        return committed(places, timeout)

    monkeypatch.setattr(consumer, "committed", slow)
    assert Positions(config(), consumer.as_consumer()).find([LANE], lambda: False)[LANE].start == 7


def test_a_worker_that_ends_does_not_wait_for_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = FakeConsumer()

    def refuse(_places: list[TopicPartition], timeout: float = 0) -> list[TopicPartition]:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    monkeypatch.setattr(consumer, "committed", refuse)
    with pytest.raises(PositionsUnknown):
        Positions(config(), consumer.as_consumer()).find([LANE], lambda: True)


def test_nothing_assigned_is_nothing_asked() -> None:
    assert Positions(config(), FakeConsumer().as_consumer()).find([], lambda: False) == {}


OURS = OffsetMap(50, 60, (50, 55), {50: 2, 55: 1}, clean=False)
"""What the same owner committed while it was at work."""


@pytest.mark.parametrize("found", [None, OffsetMap(7, 6, clean=True)])
def test_an_owner_that_begins_anew_suspects_nothing_of_its_own(found: OffsetMap | None) -> None:
    """A producer that was given up is no death: were it counted, a task of hours would be dead after a few of them."""
    again = as_before(Position(50, 100, OURS), Position(7, 40, found))
    assert again.start == 50
    assert again.restored is not None
    assert again.restored.clean
    assert again.restored.unfinished == (50, 55)


def test_an_owner_that_begins_anew_goes_on_suspecting_what_it_found_suspect() -> None:
    again = as_before(Position(50, 100, OURS), Position(7, 40, OffsetMap(7, 6, (), {50: 1}, clean=False)))
    assert (again.start, again.end) == (50, 40)
    assert again.restored == OffsetMap(50, 60, (50, 55), {50: 1}, clean=False), "what it counted itself is taken back"


def test_an_owner_that_begins_anew_without_a_map_has_nothing_to_suspect() -> None:
    assert as_before(Position(7, 40, None), Position(7, 40, None)) == Position(7, 40, None)


def test_a_member_that_gets_no_answer_stops_asking_so_that_it_can_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """The group may have dropped it, which it hears of at its next poll, and only there."""
    consumer = FakeConsumer()

    def refuse(_places: list[TopicPartition], timeout: float = 0) -> list[TopicPartition]:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    monkeypatch.setattr(consumer, "committed", refuse)
    with pytest.raises(PositionsUnknown, match="_TIMED_OUT"):
        Positions(config(), consumer.as_consumer()).find([LANE], lambda: False, patience_s=0)
