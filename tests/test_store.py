"""The store has what the topics say, wherever it was stopped and however often it is filled.

What do these tests do? They let the store read a real broker whose records the test wrote itself, and compare it with
a recount of the topics.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from live_queue import wait_until
from msgspec.structs import replace
from written_queue import MINUTE, WrittenQueue, now_ms

from fairlane.monitor.offsets import Offsets
from fairlane.monitor.store.counted import Counted, counted
from fairlane.monitor.store.database import Database, reader
from fairlane.monitor.store.follower import Follower
from fairlane.monitor.store.keeping import Keep
from fairlane.monitor.store.schema import VERSION
from fairlane.topics import wire
from fairlane.topics.audit import AuditRecord
from fairlane.topics.errors import QueueUnknown, UsageError
from fairlane.topics.events import ErrorInfo, Heartbeat, StatusEvent, decode_status, encode
from fairlane.topics.ids import new_id
from fairlane.topics.names import QueueNames

pytestmark = pytest.mark.kafka

TASKS = int(os.environ.get("FAIRLANE_STORE_TASKS", "20000"))


@contextmanager
def following(written: WrittenQueue, path: Path, keep: Keep | None = None) -> Iterator[tuple[Database, Follower]]:
    database = Database(path, written.names.queue)
    follower = Follower(written.connection, written.names, database, keep or Keep())
    try:
        yield database, follower
    finally:
        follower.close()
        database.close()


def filled(written: WrittenQueue, path: Path, keep: Keep | None = None) -> Counted:
    with following(written, path, keep) as (database, follower):
        follower.run(threading.Event(), until_caught_up=True)
        return counted(database.writer)


def ended(written: WrittenQueue, task_id: str, **fields: Any) -> StatusEvent:
    event: dict[str, Any] = {"type": "email", "state": "completed", "attempt": 1, "finished_ms": now_ms(), **fields}
    return StatusEvent(id=task_id, lane=written.names.lane(3), **event)


def retried(written: WrittenQueue, task_id: str) -> None:
    """A task in a tier, for its second attempt."""
    task = written.read_back(written.enqueue(written.task(task_id)))
    written.to_tier(replace(task, attempt=2), MINUTE)


def rows(path: Path, query: str) -> list[Any]:
    connection = reader(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def states(path: Path) -> dict[str, str]:
    return dict(rows(path, "SELECT id, state FROM tasks"))


def test_tasks_are_there_wherever_they_are(written: WrittenQueue, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    written.enqueue(written.task("waits", key=b"customer-7"))
    retried(written, "again")
    place = written.enqueue(written.task("done"))
    written.say(ended(written, "done", topic=place[0], partition=place[1], offset=place[2]))
    error = ErrorInfo("ValueError", "customers.csv: line 1 is no CSV")
    written.die(written.enqueue(written.task("dead")), "fatal", error)
    written.say(ended(written, "dead", state="failed", reason="fatal", error=error))
    written.die(written.enqueue(written.task("forgotten")), "fatal", error)
    written.beat(Heartbeat(worker="w1", at_ms=now_ms()))
    written.audit(AuditRecord(at_ms=now_ms(), who="ada", action="replay", letter=f"{written.names.dlq}/0/0"))
    found = filled(written, path)
    assert states(path) == {
        "waits": "pending", "again": "retrying", "done": "completed", "dead": "failed", "forgotten": "failed",
    }  # fmt: skip
    assert found.states == {"completed": 1, "failed": 2, "pending": 1, "retrying": 1}
    assert (found.tasks, found.letters, found.audit, found.workers, found.errors) == (5, 2, 1, 1, 2)
    words = "SELECT id FROM tasks WHERE seq IN (SELECT rowid FROM error_words WHERE error_words MATCH '\"custom\"*')"
    assert {task_id for (task_id,) in rows(path, words)} == {"dead", "forgotten"}
    assert rows(path, "SELECT sum(n) FROM minutes WHERE state = 'completed'") == [(1,)]


def test_what_comes_later_is_added_and_what_was_read_is_not_read_again(written: WrittenQueue, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    retried(written, "t")
    assert filled(written, path).states == {"retrying": 1}
    written.say(ended(written, "t", attempt=2))
    with following(written, path) as (database, follower):
        follower.run(threading.Event(), until_caught_up=True)
        assert counted(database.writer).states == {"completed": 1}
        assert follower.progress.records == 1


def test_a_task_that_is_put_back_waits_again_and_then_has_ended_again(written: WrittenQueue, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    task = written.task("t")
    place = written.enqueue(task)
    written.say(ended(written, "t", state="failed", attempt=5, topic=place[0], partition=place[1], offset=place[2]))
    assert filled(written, path).states == {"failed": 1}
    headers = wire.replay(written.record(written.die(place)).headers)
    again = written.send(written.names.lane(3), task.payload, b"t", headers)
    assert filled(written, path).states == {"pending": 1}
    written.say(ended(written, "t", topic=again[0], partition=again[1], offset=again[2]))
    assert filled(written, path).states == {"completed": 1}
    assert rows(path, "SELECT state, n FROM minutes WHERE n") == [("completed", 1)]


def test_what_is_no_task_says_nothing(written: WrittenQueue, tmp_path: Path) -> None:
    names = written.names
    for topic in (names.lane(3), names.tier(MINUTE), names.status, names.workers, names.audit, names.dlq):
        for value in (b"\xff\x00", b'{"v":1,"id":"\\ud800","type":"x","state":"completed"}', b"[" * 5_000, None, b""):
            written.send(topic, value, b"\xfe", [("ce_type", b"\xff\x00"), ("x", None)])
    big = b'{"v":1,"id":"big","type":"x","state":"completed","finished_ms":9223372036854775807}'
    written.send(names.status, big, b"big")
    found = filled(written, tmp_path / "store.db")
    assert found.letters == 5
    assert states(tmp_path / "store.db")["big"] == "completed"


def test_the_topics_made_again_are_another_queue(written: WrittenQueue, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    written.enqueue(written.task("before"))
    assert filled(written, path).states == {"pending": 1}
    written.delete()
    wait_until(lambda: not left(written), "the topics are gone")
    written.create(written.topics)
    written.say(ended(written, "after"))
    assert filled(written, path).tasks == 1
    assert states(path) == {"after": "completed"}


def left(written: WrittenQueue) -> set[str]:
    return set(written.topics) & Offsets(written.connection, timeout_s=10).partitions().keys()


def test_a_file_of_another_version_is_made_anew_and_a_foreign_one_is_left(
    written: WrittenQueue, tmp_path: Path
) -> None:
    path = tmp_path / "store.db"
    written.say(ended(written, "t"))
    filled(written, path)
    with sqlite3.connect(path) as other:
        other.execute("UPDATE tasks SET state = 'old'")
        other.execute(f"PRAGMA user_version = {VERSION + 1}")
    other.close()
    assert filled(written, path).states == {"completed": 1}
    assert states(path) == {"t": "completed"}
    foreign = tmp_path / "notes.txt"
    foreign.write_text("do not lose this")
    with pytest.raises(UsageError, match="no store of fairlane's"):
        Database(foreign, "shop")
    assert foreign.read_text() == "do not lose this"
    with pytest.raises(UsageError, match="the store of queue"):
        Database(path, "another")


def test_two_run_side_by_side_but_not_on_one_file(written: WrittenQueue, tmp_path: Path) -> None:
    written.say(ended(written, "t"))
    with following(written, tmp_path / "one.db") as (_, first):
        first.run(threading.Event(), until_caught_up=True)
        assert filled(written, tmp_path / "two.db").states == {"completed": 1}
        with pytest.raises(UsageError, match="another process has the store"):
            Database(tmp_path / "one.db", written.names.queue)


def test_a_queue_that_is_not_there_is_said(kafka: str, written: WrittenQueue, tmp_path: Path) -> None:
    database = Database(tmp_path / "store.db", "no-such-queue")
    follower = Follower(written.connection, QueueNames("no-such-queue"), database, Keep())
    try:
        with pytest.raises(QueueUnknown, match="fairlane topics create"):
            follower.run(threading.Event())
    finally:
        follower.close()
        database.close()


# Many tasks.


def many(written: WrittenQueue, count: int, *, finished_ms: int = 0) -> None:
    """So many tasks that ended, every seventh badly, every hundredth still waiting."""
    producer = Producer(written.connection.producer(linger_ms=20))
    for number in range(count):
        task = written.task(new_id())
        producer.produce(written.names.lane(3), b"{}", headers=list(wire.encode(task)))
        if number % 100:
            event = ended(
                written, task.id, state="failed" if number % 7 == 0 else "completed",
                finished_ms=finished_ms or now_ms(),
                error=ErrorInfo("ValueError", f"line {number}") if number % 7 == 0 else None,
            )  # fmt: skip
            producer.produce(written.names.status, encode(event), task.id.encode())
        if number % 5_000 == 0:
            producer.flush(60)
    assert producer.flush(60) == 0


def recount(written: WrittenQueue) -> Counter[str]:
    """States of tasks by a plain reading of the topics."""
    newest = {}
    for record in written.everything(written.names.status):
        if (event := decode_status(record.value or b"")) is not None:
            newest[event.id] = event.state
    waiting = Counter[str]()
    for record in written.everything(written.names.lane(3)):
        waiting["pending"] += dict(record.headers)["ce_id"].decode() not in newest  # type: ignore[union-attr]
    return Counter(newest.values()) + waiting


def test_killed_while_it_catches_up_it_has_the_counts_of_a_recount(written: WrittenQueue, tmp_path: Path) -> None:
    """The tasks ran before the monitor was started; it is killed three times on its way."""
    many(written, TASKS)
    path = tmp_path / "store.db"
    url = f"kafka://{written.connection.bootstrap}/{written.names.queue}"
    command = [sys.executable, "-m", "fairlane", "monitor", "serve", "--queue-url", url, "--store", str(path)]
    for kills in range(1, 4):
        process = subprocess.Popen([*command, "--catch-up"], stdout=subprocess.DEVNULL)
        await_read(process, path, kills * TASKS // 3)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert read_past(path) > 0
    last = subprocess.run([*command, "--catch-up"], stdout=subprocess.PIPE, check=True, timeout=200)
    expected = recount(written)
    found = json.loads(last.stdout)
    assert found["states"] == dict(expected)
    assert found["tasks"] == TASKS
    assert rows(path, "SELECT state, count(*) FROM tasks GROUP BY state ORDER BY state") == sorted(expected.items())
    assert rows(path, "SELECT sum(n) FROM minutes") == [(expected["completed"] + expected["failed"],)]


def await_read(process: subprocess.Popen[bytes], path: Path, records: int) -> None:
    wait_until(lambda: process.poll() is not None or read_past(path) > records, "it has read some")


def read_past(path: Path) -> int:
    try:
        return int(rows(path, "SELECT coalesce(sum(next_offset), 0) FROM positions")[0][0])
    except sqlite3.OperationalError:
        return 0


def until(follower: Follower, done: Callable[[], bool]) -> None:
    """Step until it is so; what it does every second, it does at every step."""
    follower.run(threading.Event(), until_caught_up=True)
    for _ in range(100):
        follower._next |= {"keep": 0.0, "watermarks": 0.0}
        follower.step()
        if done():
            return
    raise AssertionError("it did not come to that")


def test_what_ended_long_ago_goes_and_what_waits_stays(written: WrittenQueue, tmp_path: Path) -> None:
    long_ago_ms = now_ms() - 900_000
    written.enqueue(written.task("waits", enqueued_ms=long_ago_ms), partition=1)
    settled = written.enqueue(written.task("settled, and nothing tells of it", enqueued_ms=long_ago_ms), partition=0)
    written.commit({settled[:2]: settled[2] + 1})
    error = ErrorInfo("ValueError", "no CSV")
    written.say(ended(written, "dead", state="failed", error=error, enqueued_ms=long_ago_ms))
    path = tmp_path / "store.db"
    with following(written, path, Keep(keep_s=0.001)) as (database, follower):
        until(follower, lambda: set(states(path)) == {"waits"})
        found = counted(database.writer)
        assert (found.states, found.errors) == ({"pending": 1}, 0)
        assert rows(path, "SELECT count(*) FROM attempts") == [(0,)]


def test_the_file_stays_within_its_size_and_nothing_that_ended_comes_back(
    written: WrittenQueue, tmp_path: Path
) -> None:
    many(written, 12_000)
    lane = written.names.lane(3)
    ends = Offsets(written.connection, timeout_s=10).ends([(lane, number) for number in range(written.partitions)])
    written.commit(ends)
    for number in range(50):
        written.enqueue(written.task(f"waits-{number}"))
    path = tmp_path / "store.db"
    size = 3 << 20
    with following(written, path, Keep(max_bytes=size)) as (database, follower):
        until(
            follower, lambda: follower._keeper.used_bytes <= size and counted(database.writer).states["pending"] == 50
        )
        found = counted(database.writer)
        assert 2_000 < found.tasks < 12_000
        assert found.tasks == rows(path, "SELECT sum(n) FROM counts")[0][0]
