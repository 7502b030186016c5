"""Where a task is found, on a real broker whose records the test wrote itself."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import msgspec
import pytest
from msgspec.structs import replace
from written_queue import MINUTE, WrittenQueue, now_ms

from fairlane.monitor.errors import ReadIncomplete
from fairlane.monitor.explain import explain
from fairlane.monitor.lookup import find_task
from fairlane.monitor.scan import Commit, Partition, Scanner
from fairlane.monitor.task_view import TaskView
from fairlane.topics import offset_map
from fairlane.topics.audit import AuditRecord
from fairlane.topics.connection import Connection
from fairlane.topics.errors import KafkaUnreachable, QueueUnknown, TaskUnknown
from fairlane.topics.events import ErrorInfo, Heartbeat, RunningTask, StatusEvent
from fairlane.topics.ids import new_id
from fairlane.topics.names import QueueNames
from fairlane.topics.offset_map import OffsetMap
from fairlane.topics.task import Task

pytestmark = pytest.mark.kafka

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def find(written: WrittenQueue, task_id: str, timeout_s: float = 10) -> TaskView:
    return find_task(written.connection, written.names, task_id, now_ms=now_ms(), timeout_s=timeout_s)


def retried(written: WrittenQueue, place: tuple[str, int, int], delay_ms: int = 60_000) -> tuple[Task, StatusEvent]:
    """The task in a tier and the event beside it, as the first attempt's settlement writes them."""
    task = written.read_back(place)
    at_ms = now_ms()
    again = replace(task, attempt=2, not_before_ms=at_ms + delay_ms, first_failed_ms=at_ms)
    event = StatusEvent(
        id=task.id, type=task.type, state="retrying", lane=task.lane, attempt=1, max_attempts=5,
        enqueued_ms=task.enqueued_ms, started_ms=at_ms - 5, finished_ms=at_ms, due_ms=again.not_before_ms, worker="w1",
        topic=place[0], partition=place[1], offset=place[2], error=ErrorInfo("OSError", "no route"),
    )  # fmt: skip
    return again, event


def test_a_completed_task_shows_its_result(written: WrittenQueue) -> None:
    task = written.task()
    result = msgspec.Raw(b'"sent"')
    written.say(StatusEvent(id=task.id, type="email", state="completed", attempt=2, worker="w1", result=result))
    found = find(written, task.id)
    assert (found.state, bytes(found.result), found.attempt, found.worker) == ("completed", b'"sent"', 2, "w1")


def test_the_newest_event_counts(written: WrittenQueue) -> None:
    task = written.task("same-id")
    written.say(StatusEvent(id=task.id, type="email", state="retrying", attempt=1))
    written.say(StatusEvent(id=task.id, type="email", state="cancelled", attempt=1))
    assert find(written, task.id).state == "cancelled"


def test_a_task_in_a_lane_is_pending_with_its_place(written: WrittenQueue) -> None:
    for _ in range(3):
        written.enqueue(written.task(), 5, partition=1)
    task = written.task(traceparent=TRACEPARENT)
    _, _, offset = written.enqueue(task, 5, partition=1)
    written.commit({(written.names.lane(5), 1): 1})
    found = find(written, task.id)
    assert (found.state, found.type, found.trace_id) == ("pending", "email", TRACE)
    assert found.place is not None
    assert (found.place.kind, found.place.topic, found.place.offset) == ("lane", written.names.lane(5), offset)
    assert found.place.before == 2


def test_what_is_finished_before_a_task_does_not_count_as_before_it(written: WrittenQueue) -> None:
    lane = written.names.lane(3)
    for _ in range(4):
        written.enqueue(written.task(), partition=0)
    task = written.task()
    written.enqueue(task, partition=0)
    written.commit({(lane, 0): 0}, offset_map.encode(OffsetMap(0, 3, (0, 2))))
    found = find(written, task.id)
    assert found.place is not None
    assert (found.place.offset, found.place.before) == (4, 2)


def test_an_id_that_tells_no_time_is_found_by_its_key(written: WrittenQueue) -> None:
    task = written.task("order-17")
    written.enqueue(task)
    assert find(written, "order-17").state == "pending"


def test_an_id_under_another_key_is_found_all_the_same(written: WrittenQueue) -> None:
    task = written.task("order-18")
    for partition in range(written.partitions):
        written.enqueue(replace(task, id=f"order-18-{partition}"), partition=partition)
    assert {find(written, f"order-18-{partition}").state for partition in range(written.partitions)} == {"pending"}


def test_a_record_without_an_id_is_found_by_its_place(written: WrittenQueue) -> None:
    written.send(written.names.lane(3), b'{"type":"email","payload":{}}', partition=2)
    topic, partition, offset = written.send(written.names.lane(3), b'{"type":"report","payload":{}}', partition=2)
    found = find(written, f"{topic}/{partition}/{offset}")
    assert (found.state, found.type) == ("pending", "report")


def test_a_bare_record_with_an_id_is_found(written: WrittenQueue) -> None:
    written.send(written.names.lane(3), b'{"type":"email","id":"bare-1","payload":{}}')
    assert find(written, "bare-1").state == "pending"


def test_a_task_that_runs_says_since_when_and_where(written: WrittenQueue) -> None:
    task = written.task()
    topic, partition, offset = written.enqueue(task)
    running = RunningTask(task.id, "email", now_ms() - 3_000, f"{topic}/{partition}", offset)
    written.beat(Heartbeat(worker="w7", at_ms=now_ms(), running_tasks=(running,)))
    found = find(written, task.id)
    assert (found.state, found.worker, found.started_ms) == ("running", "w7", running.since_ms)
    assert found.place is not None
    assert found.place.offset == offset


def test_a_task_of_a_worker_that_is_gone_is_not_running(written: WrittenQueue) -> None:
    task = written.task()
    topic, partition, offset = written.enqueue(task)
    running = RunningTask(task.id, "email", now_ms() - 30_000, f"{topic}/{partition}", offset)
    written.beat(Heartbeat(worker="dead", at_ms=now_ms() - 20_000, running_tasks=(running,)))
    assert find(written, task.id).state == "pending"


def test_a_retry_waits_in_its_tier_with_its_error(written: WrittenQueue) -> None:
    task = written.task()
    again, event = retried(written, written.enqueue(task))
    tier = written.to_tier(again)
    written.say(event)
    found = find(written, task.id)
    assert (found.state, found.attempt, found.due_ms) == ("retrying", 2, again.not_before_ms)
    assert found.error is not None
    assert found.error.message == "no route"
    assert found.place is not None
    assert (found.place.kind, found.place.topic, found.place.offset) == ("tier", written.names.tier(MINUTE), tier[2])


def test_a_retry_whose_record_is_not_found_is_retrying_still(written: WrittenQueue) -> None:
    task = written.task()
    place = written.enqueue(task)
    _, event = retried(written, place)
    written.say(event)
    found = find(written, task.id)
    assert (found.state, found.place, found.due_ms) == ("retrying", None, event.due_ms)


def test_a_second_attempt_that_runs_is_running(written: WrittenQueue) -> None:
    task = written.task()
    place = written.enqueue(task)
    again, event = retried(written, place)
    topic, partition, offset = written.to_tier(again)
    written.say(event)
    running = RunningTask(task.id, "email", now_ms(), f"{topic}/{partition}", offset)
    stale = RunningTask(task.id, "email", event.started_ms, f"{place[0]}/{place[1]}", place[2])
    written.beat(Heartbeat(worker="w1", at_ms=now_ms(), running_tasks=(stale,)))
    written.beat(Heartbeat(worker="w2", at_ms=now_ms(), running_tasks=(running,)))
    found = find(written, task.id)
    assert (found.state, found.worker, found.attempt) == ("running", "w2", 2)


def test_an_ended_task_is_not_running_whatever_a_late_heartbeat_says(written: WrittenQueue) -> None:
    task = written.task()
    topic, partition, offset = written.enqueue(task)
    running = RunningTask(task.id, "email", now_ms() - 1_000, f"{topic}/{partition}", offset)
    written.beat(Heartbeat(worker="w1", at_ms=now_ms(), running_tasks=(running,)))
    written.say(StatusEvent(id=task.id, type="email", state="completed"))
    assert find(written, task.id).state == "completed"


def test_a_failed_task_names_its_letter(written: WrittenQueue) -> None:
    task = written.task()
    place = written.enqueue(task)
    letter = written.die(place, "fatal", ErrorInfo("ValueError", "no such user", "Traceback …"))
    written.say(
        StatusEvent(id=task.id, type="email", state="failed", reason="fatal", error=ErrorInfo("ValueError", "no user"))
    )
    found = find(written, task.id)
    assert (found.state, found.reason) == ("failed", "fatal")
    assert found.place is not None
    assert (found.place.topic, found.place.partition, found.place.offset) == letter


def test_a_letter_is_known_after_its_status_is_gone(written: WrittenQueue) -> None:
    task = written.task()
    written.die(written.enqueue(task), "fatal", ErrorInfo("ValueError", "no such user"))
    written.commit({(written.names.lane(3), partition): 1 for partition in range(written.partitions)})
    found = find(written, task.id)
    assert (found.state, found.reason) == ("failed", "fatal")
    assert found.error is not None
    assert found.error.type == "ValueError"


def test_a_replayed_task_is_pending_again(written: WrittenQueue) -> None:
    task = written.task()
    place = written.enqueue(task)
    letter = written.die(place)
    written.say(
        StatusEvent(
            id=task.id, type="email", state="failed", reason="max_attempts", attempt=5, topic=place[0],
            partition=place[1], offset=place[2],
        )
    )  # fmt: skip
    written.audit(
        AuditRecord(at_ms=now_ms(), action="replay", letter="/".join(map(str, letter)), task_id=task.id, to=place[0])
    )
    replayed = replace(written.read_back(place), replays=1)
    again = written.enqueue(replayed)
    found = find(written, task.id)
    assert (found.state, found.attempt) == ("pending", 1)
    assert found.replayed_ms > 0
    assert found.place is not None
    assert (found.place.topic, found.place.partition, found.place.offset) == again


def test_a_replayed_task_that_completes_has_completed(written: WrittenQueue) -> None:
    task = written.task()
    written.say(StatusEvent(id=task.id, type="email", state="failed"))
    written.audit(AuditRecord(at_ms=now_ms(), action="replay", letter="x/0/1", task_id=task.id))
    written.say(StatusEvent(id=task.id, type="email", state="completed"))
    assert find(written, task.id).state == "completed"


def test_an_unknown_task_says_how_long_statuses_are_kept(written: WrittenQueue) -> None:
    with pytest.raises(TaskUnknown, match="kept for 7 days"):
        find(written, new_id())
    with pytest.raises(TaskUnknown):
        find(written, "no-such-order")


def test_a_search_that_takes_too_long_says_so(written: WrittenQueue) -> None:
    for _ in range(20):
        written.settle(*((written.names.lane(5), b"x" * 1_000, None, ()) for _ in range(500)))
    with pytest.raises((ReadIncomplete, KafkaUnreachable)):
        find(written, "no-such-order", timeout_s=0.02)


def test_an_unknown_queue_is_said(kafka: str, queue: str) -> None:
    with pytest.raises(QueueUnknown, match=f"{queue}.status"):
        find_task(Connection(kafka), QueueNames(queue), "x", now_ms=now_ms())


def test_a_task_that_ends_while_it_is_looked_for_has_ended(
    written: WrittenQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = written.task()
    place = written.enqueue(task)
    real = Scanner.commits

    def settled_meanwhile(scanner: Scanner, partitions: Iterable[Partition]) -> dict[Partition, Commit]:
        """After the first look at its status, before its lane is read: the task is settled."""
        written.say(StatusEvent(id=task.id, type="email", state="completed"))
        written.commit({place[:2]: place[2] + 1})
        return real(scanner, partitions)

    monkeypatch.setattr(Scanner, "commits", settled_meanwhile)
    assert find(written, task.id).state == "completed"


def test_a_settlement_that_is_not_visible_yet_is_waited_for(written: WrittenQueue) -> None:
    """The offset that a transaction commits can be seen before the event in the same transaction."""
    task = written.task()
    place = written.enqueue(task)
    written.commit({place[:2]: place[2] + 1})
    with written.unfinished_settlement(StatusEvent(id=task.id, type="email", state="completed")) as commit:
        timer = threading.Timer(0.5, commit)
        timer.start()
        found = find(written, task.id)
        timer.join()
    assert found.state == "completed"


def test_a_task_that_died_again_after_a_replay_names_its_newest_letter(written: WrittenQueue) -> None:
    """Clocks of two workers need not agree: the letter is the one of the record that the status is of."""
    task = written.task()
    place = written.enqueue(task)
    first = written.die(place)
    dead = StatusEvent(id=task.id, type="email", state="failed", reason="max_attempts", finished_ms=now_ms())
    written.say(replace(dead, topic=place[0], partition=place[1], offset=place[2]))
    written.audit(
        AuditRecord(at_ms=now_ms(), action="replay", letter="/".join(map(str, first)), task_id=task.id, to=place[0])
    )
    found = find(written, task.id)
    assert found.place is None or found.place.replayed
    replayed = replace(written.read_back(place), replays=1)
    again = written.enqueue(replayed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("written_queue.now_ms", lambda: now_ms() - 60_000)
        second = written.die(again)
    written.say(replace(dead, topic=again[0], partition=again[1], offset=again[2]))
    found = find(written, task.id)
    assert found.place is not None
    assert (found.place.topic, found.place.partition, found.place.offset) == second
    assert not found.place.replayed
    assert "fairlane dlq replay" in explain(found, None, now_ms()).advice
