"""Dead letters are listed, shown and put back, on a real broker whose records the test wrote itself."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer
from msgspec.structs import replace
from written_queue import WrittenQueue

from fairlane.monitor.dlq import Dealt, Listing, list_letters
from fairlane.monitor.errors import ReplayFailed
from fairlane.monitor.letter import Letter
from fairlane.monitor.letter_filter import LetterFilter
from fairlane.monitor.record import Record
from fairlane.monitor.replay import Report, new_job, run_replay
from fairlane.monitor.replay_job import lane_of
from fairlane.topics.audit import decode_audit
from fairlane.topics.connection import Connection
from fairlane.topics.errors import QueueUnknown
from fairlane.topics.events import ErrorInfo
from fairlane.topics.names import QueueNames

pytestmark = pytest.mark.kafka

EVERY = LetterFilter(replayed=True)
OPEN = LetterFilter()


def listed(written: WrittenQueue, wanted: LetterFilter = OPEN, limit: int = 100) -> Listing:
    return list_letters(written.connection, written.names, wanted, limit=limit)


def letters(written: WrittenQueue, wanted: LetterFilter = OPEN) -> list[Letter]:
    return [one.letter for one in listed(written, wanted).letters]


def put_back(written: WrittenQueue, which: list[Letter], *, again: bool = False) -> Report:
    wanted = LetterFilter(places=frozenset(letter.place for letter in which))
    job = new_job(written.connection, written.names, wanted, again=again)
    return run_replay(written.connection, written.names, job, who="ada@host")


def test_letters_are_listed_the_newest_first_with_what_killed_them(written: WrittenQueue) -> None:
    for number in range(5):
        place = written.enqueue(written.task(f"t{number}", key=b"k"), 5, partition=number % 3)
        written.die(place, "fatal", ErrorInfo("ValueError", f"no user {number}", "Traceback …"))
    found = letters(written)
    assert [letter.task_id for letter in found] == ["t4", "t3", "t2", "t1", "t0"]
    first = found[0]
    assert (first.reason, first.error_type, first.error_message) == ("fatal", "ValueError", "no user 4")
    assert (first.type, first.attempt, first.lane) == ("email", 1, written.names.lane(5))
    assert first.original is not None
    assert first.original.topic == written.names.lane(5)
    assert first.payload == b'{"to":"ada@example.org"}'


def test_a_dlq_of_several_windows_is_read_backwards_in_order(written: WrittenQueue) -> None:
    for start in range(0, 1_500, 100):
        written.settle(*((written.names.dlq, b"%d" % number, None, ()) for number in range(start, start + 100)))
    found = listed(written, limit=1_000)
    times = [one.letter.record.timestamp_ms for one in found.letters]
    assert times == sorted(times, reverse=True)
    assert found.more
    assert len({one.letter.place for one in found.letters}) == 1_000
    assert len(listed(written, limit=2_000).letters) == 1_500


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (LetterFilter(task_id="a"), {"a"}),
        (LetterFilter(type="report"), {"b", "c"}),
        (LetterFilter(reason="fatal"), {"a", "b"}),
        (LetterFilter(type="report", reason="fatal"), {"b"}),  # all that is said must fit
    ],
)
def test_a_filter_chooses(written: WrittenQueue, wanted: LetterFilter, expected: set[str]) -> None:
    written.die(written.enqueue(written.task("a")), "fatal")
    written.die(written.enqueue(written.task("b", type="report")), "fatal")
    written.die(written.enqueue(written.task("c", type="report")), "max_attempts")
    assert {letter.task_id for letter in letters(written, wanted)} == expected


def test_a_letter_that_is_no_task_is_listed_with_what_it_says(written: WrittenQueue) -> None:
    place = written.send(written.names.lane(3), b"\xff\x00no json", b"k", [("x", b"1"), ("fairlane-attempt", b"many")])
    written.die(place, "malformed", ErrorInfo("MalformedRecord", "the value is no JSON"))
    written.send(written.names.dlq, b"anything", None, [("fairlane-original-offset", b"-5"), ("y", None)])
    strange, malformed = letters(written)
    assert malformed.task_id == "/".join(map(str, place))
    assert (malformed.reason, malformed.payload, malformed.attempt) == ("malformed", b"\xff\x00no json", 0)
    assert (strange.task_id, strange.reason, strange.original) == (strange.place, "", None)


def test_a_replay_puts_the_record_back_as_it_was(written: WrittenQueue) -> None:
    task = written.task(attempt=5, key=b"customer-7", source="/shop", headers=(("x-tenant", b"\x00\xff"),))
    place = written.send(
        written.names.lane(5), b"\x00payload\xff", b"customer-7",
        [("ce_specversion", b"1.0"), ("ce_id", task.id.encode()), ("ce_source", b"/s"), ("ce_type", b"email"),
         ("x-tenant", b"\x00\xff"), ("fairlane-attempt", b"5")],
    )  # fmt: skip
    written.die(place, "max_attempts", ErrorInfo("OSError", "no route"))
    (letter,) = letters(written)
    done = put_back(written, [letter])
    (one,) = done.done
    assert (one.letter, one.task_id, one.to) == (letter.place, task.id, written.names.lane(5))
    again = written.record((one.to, one.partition, one.offset))
    first = written.record(place)
    assert (again.key, again.value) == (first.key, first.value)
    headers = dict(again.headers)
    assert headers["x-tenant"] == b"\x00\xff"
    assert headers["fairlane-replays"] == b"1"
    assert "fairlane-reason" not in headers
    back = written.read_back((one.to, one.partition, one.offset))
    assert (back.id, back.attempt, back.replays) == (task.id, 1, 1)
    assert str(back.origin) == "/".join(map(str, place))


def test_a_replay_is_in_the_audit_and_hides_its_letter(written: WrittenQueue) -> None:
    written.die(written.enqueue(written.task("a")))
    written.die(written.enqueue(written.task("b")))
    (letter,) = letters(written, LetterFilter(task_id="a"))
    put_back(written, [letter])
    said = [(record.key, decode_audit(record.value or b"")) for record in written.everything(written.names.audit)]
    assert [audit.phase for _, audit in said if audit] == ["started", "", "ended"]
    key, audit = said[1]
    assert key == letter.place.encode()
    assert audit is not None
    assert (audit.action, audit.who, audit.letter) == ("replay", "ada@host", letter.place)
    assert (audit.task_id, audit.to) == ("a", written.names.lane(3))
    assert [one.task_id for one in letters(written)] == ["b"]
    assert listed(written).hidden == 1
    assert {one.letter.task_id: one.replayed is not None for one in listed(written, EVERY).letters} == {
        "a": True,
        "b": False,
    }


def test_a_letter_is_put_back_once_unless_it_is_asked_for_again(written: WrittenQueue) -> None:
    written.die(written.enqueue(written.task("a")))
    (letter,) = letters(written)
    assert len(put_back(written, [letter]).done) == 1
    refused = put_back(written, [letter])
    assert (refused.done, refused.dealt) == ((), 1)
    assert len(put_back(written, [letter], again=True).done) == 1
    assert len(written.everything(written.names.lane(3))) == 3


def test_many_letters_go_back_in_the_order_in_which_they_died(written: WrittenQueue) -> None:
    places = [written.enqueue(written.task(f"t{number}", key=b"k"), partition=0) for number in range(7)]
    for place in places:
        written.die(place)
    done = put_back(written, letters(written))
    assert [one.task_id for one in done.done] == [f"t{number}" for number in range(7)]
    assert listed(written) == Listing((), False, 7)


def test_a_replay_that_another_one_took_over_from_puts_nothing_back(
    written: WrittenQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two operators at the same moment: Kafka lets only the newer one commit."""
    written.die(written.enqueue(written.task("a")))
    found = letters(written)

    def overtaken(*_: object) -> Dealt:
        other = Producer(written.connection.producer(transactional_id=f"fairlane-{written.names.queue}-replay"))
        other.init_transactions(10)
        return Dealt()

    monkeypatch.setattr("fairlane.monitor.letter_transactions.dealt_with", overtaken)
    with pytest.raises(ReplayFailed, match="0 of 1 letters were replayed"):
        put_back(written, found)
    assert len(letters(written)) == 1
    assert len(written.everything(written.names.lane(3))) == 1


NAMES = QueueNames("shop")
LANES = NAMES.default_lanes()


@pytest.mark.parametrize(
    ("fields", "lane"),
    [
        ({"lane": "shop.p5", "priority": 1}, "shop.p5"),  # the lane that it says
        ({"lane": "shop.retry-5s", "priority": 4}, "shop.p4"),  # a tier is no lane
        ({"lane": "payments", "priority": 2}, "shop.p2"),  # nor is what anybody may have written there
        ({"priority": 0}, "shop.p1"),  # nothing known: the least urgent
    ],
)
def test_a_letter_goes_to_a_lane_of_its_queue(written_letter: Letter, fields: dict[str, object], lane: str) -> None:
    assert lane_of(replace(written_letter, **fields), NAMES, LANES) == lane


@pytest.fixture
def written_letter() -> Letter:
    return Letter(record=Record("shop.dlq", 0, 0, 0, None, b"", ()))


def test_an_unknown_queue_has_no_letters(kafka: str, queue: str) -> None:
    with pytest.raises(QueueUnknown, match=f"{queue}.dlq"):
        list_letters(Connection(kafka), QueueNames(queue), EVERY, limit=1)
