"""Upgrades: what the version before left is worked off by this one, and what a newer one writes is not misread.

What do these tests do? They write a queue as fairlane 0.1.0 left it (`golden/left`), byte for byte and with the
offsets that its workers had committed, start today's worker on it, and count by origin what became of each task. Then
they put what a newer version might write before today's worker.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from left_queue import LeftQueue, in_a_newer_version
from live_queue import headers_of, wait_until
from typer.testing import CliRunner
from worker_processes import worker_processes
from working_queue import WorkingQueue, working_queue

from fairlane.cli.main import app as command_line
from fairlane.consumer.context import context
from fairlane.topics import offset_map
from fairlane.topics.audit import decode_audit
from fairlane.topics.events import decode_heartbeat, decode_status
from fairlane.topics.offset_map import OffsetMap

LEFT = LeftQueue.of("0.1.0")
STATUS = LEFT.values("left.status")
BEATS = LEFT.values("left.workers")


@pytest.fixture
def left(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka, partitions=1, name=LEFT.queue) as queue:
        LEFT.write(queue)
        yield queue


@pytest.fixture
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka, partitions=1) as queue:
        yield queue


def say(queue: WorkingQueue, *arguments: str) -> str:
    where = f"kafka://{queue.bootstrap}/{queue.names.queue}"
    result = CliRunner().invoke(command_line, arguments, env={"FAIRLANE_QUEUE_URL": where})
    assert result.exit_code == 0, result.output
    return result.stdout


def committed(queue: WorkingQueue, topic: str) -> tuple[int, str]:
    consumer = Consumer(queue.connection.consumer(group_id=queue.names.group))
    (place,) = consumer.committed([TopicPartition(topic, 0)], timeout=60)
    consumer.close()
    return place.offset, place.metadata or ""


def commit(queue: WorkingQueue, topic: str, offset: int, metadata: str) -> None:
    consumer = Consumer(queue.connection.consumer(group_id=queue.names.group))
    consumer.commit(offsets=[TopicPartition(topic, 0, offset, metadata=metadata)], asynchronous=False)
    consumer.close()


def test_every_record_that_the_version_before_has_left_is_understood() -> None:
    assert all(decode_status(value) is not None for value in (*STATUS, *LEFT.values("left.replies")))
    old_1, old_2 = (decode_heartbeat(value) for value in BEATS)
    assert old_1 is not None
    assert old_2 is not None
    assert [task.type for task in old_2.running_tasks] == ["hold", "crash", "hold", "hold"]
    assert [(held.partition, held.outage) for held in old_2.held_back] == [("left.p3/0", True)]
    (replay,) = (decode_audit(value) for value in LEFT.values("left.audit"))
    assert replay is not None
    assert replay.deals_with == "left.dlq/0/3"
    maps = {part.topic: offset_map.decode(part.committed, part.metadata) for part in LEFT.partitions if part.metadata}
    assert maps["left.p3"] == OffsetMap(1, 10, (1, 3, 5), {1: 1, 3: 1, 5: 1}, clean=False)
    assert None not in maps.values()


@pytest.mark.kafka
def test_what_the_version_before_has_left_is_done_once_each_and_what_had_ended_is_not_done_again(
    left: WorkingQueue,
) -> None:
    """With its maps of what is finished, its losses, what is on its way in tiers, moved aside, or replayed."""
    ran: dict[str, list[int]] = defaultdict(list)

    async def run() -> str:
        ran[str(context().task.origin)].append(context().attempt)
        return "done"

    async def send(number: int) -> str:
        return await run()

    async def hold(number: int) -> str:
        return await run()

    async def flaky(number: int) -> str:
        return await run()

    async def late(number: int) -> str:
        return await run()

    async def crash() -> str:
        return await run()

    before = {origin: len(events) for origin, events in left.wait_ended(13).items()}
    assert set(before.values()) == {1}
    with left.worker(send, hold, flaky, late, crash):
        expected = {each.origin: [each.attempt] for each in LEFT.unfinished}
        wait_until(lambda: ran.keys() >= expected.keys(), "all that was unfinished has run")
        wait_until(lambda: not left.lag(), "nothing is left to read")
    assert ran == expected
    ends = before | {origin: before.get(origin, 0) + 1 for origin in expected}
    wait_until(lambda: {origin: len(events) for origin, events in left.terminal().items()} == ends, "one end for each")
    assert {left.terminal()[each.origin][-1].state for each in LEFT.unfinished} == {"completed"}
    assert len(left.letters()) == 3, "no new letter"


@pytest.mark.kafka
def test_the_commands_show_what_the_version_before_has_left(left: WorkingQueue) -> None:
    by_type = {each.type: each.id for each in LEFT.unfinished}
    assert "Status: retrying" in say(left, "status", by_type["flaky"])
    assert "Status: completed" in say(left, "status", "order-8")
    assert "Status: pending" in say(left, "status", "order-17")
    letters = json.loads(say(left, "dlq", "list", "--json"))
    assert "4 is no order" in json.dumps(letters)
    assert "rejected" in say(left, "dlq", "show", "left.dlq/0/2")
    names = {worker["worker"] for worker in json.loads(say(left, "workers", "--all", "--json"))["workers"]}
    assert names == {"old-1", "old-2"}
    stats = json.loads(say(left, "monitor", "--json"))
    assert stats["delayed_tasks"] == 4
    assert {lane["topic"]: lane["length"] for lane in stats["lanes"]}["left.p3"] == 5


@pytest.mark.kafka
def test_a_task_of_a_newer_version_is_a_dead_letter_that_says_so_and_stops_nobody(queue: WorkingQueue) -> None:
    """Wherever it is, and in whichever form. Once the workers are new too, it is put back as it was."""
    newer = ("fairlane-version", b"2")
    lane, tier = queue.names.lane(3), queue.names.tier(queue.config().tiers[0])
    queue.send_raw(lane, b'{"number": 1}', key=b"ada", headers=[("ce_type", b"send"), newer, ("fairlane-mood", b"x")])
    queue.send_raw(lane, b'{"type": "send", "payload": {"number": 2}}', headers=[newer])
    queue.send_raw(tier, b'{"number": 3}', headers=[("ce_type", b"send"), ("fairlane-lane", lane.encode()), newer])
    queue.send_raw(lane, b'{"number": 4}', headers=[("ce_type", b"send"), ("ce_specversion", b"2.0")])
    queue.send_raw(lane, b'{"number": 5}', headers=[("ce_type", b"send"), ("fairlane-version", b"1")])
    queue.flush()
    ran: list[int] = []

    async def send(number: int) -> None:
        ran.append(number)

    with queue.worker(send):
        queue.wait_ended(5)
    assert ran == [5]
    letters = {letter.value(): headers_of(letter) for letter in queue.letters()}
    assert len(letters) == 4
    assert {letter["fairlane-reason"] for letter in letters.values()} == {b"malformed"}
    of_first = letters[b'{"number": 1}']
    assert (of_first["fairlane-version"], of_first["fairlane-mood"]) == (b"2", b"x")
    problem, other = (letters[value]["fairlane-error-message"] or b"" for value in (b'{"number": 1}', b'{"number": 4}'))
    assert problem.startswith(b"fairlane-version is b'2', not b'1': a newer fairlane wrote this record")
    assert other.startswith(b"ce_specversion is b'2.0'")


@pytest.mark.kafka
def test_a_map_of_a_newer_version_ends_the_worker_before_it_runs_or_commits_anything(
    queue: WorkingQueue, tmp_path: Path
) -> None:
    """To read on from the watermark would be to do again what the newer map calls finished."""
    lane = queue.names.lane(3)
    queue.send(*(queue.task("send", b'{"number": %d}' % number) for number in range(3)))
    commit(queue, lane, 1, "fl2:somethingelse")
    app = """
        from fairlane import Fairlane
        app = Fairlane("{queue}")

        @app.task
        def send(number: int) -> None: ...
    """.replace("\n        ", "\n")
    with worker_processes(queue, app, tmp_path) as workers:
        workers.start("old")
        assert workers.wait("old") == 4
        assert f"fairlane: the offset map of {lane}/0 is of version 2" in workers.log("old")
        assert committed(queue, lane) == (1, "fl2:somethingelse")
        assert not queue.terminal()
        # The newer one has been at work meanwhile, and was taken back in good order: it left a map of ours.
        commit(queue, lane, 1, offset_map.encode(OffsetMap(1, 0, clean=True)))
        workers.start("again")
        assert set(queue.wait_ended(2)) == {f"{lane}/0/1", f"{lane}/0/2"}


@pytest.mark.kafka
def test_what_a_newer_version_says_of_tasks_and_workers_is_ignored_and_shown_as_such(queue: WorkingQueue) -> None:
    send = queue.task("send", task_id="order-1")
    queue.send(send)
    event = json.loads(STATUS[1]) | {"id": "order-1"}
    queue.send_raw(queue.names.status, in_a_newer_version(json.dumps(event).encode()), key=b"order-1")
    now_ms = time.time_ns() // 1_000_000
    beat: dict[str, Any] = json.loads(BEATS[1]) | {"at_ms": now_ms, "worker": "old", "partitions": [], "held_back": []}
    queue.send_raw(queue.names.workers, json.dumps(beat).encode(), key=b"old")
    queue.send_raw(queue.names.workers, in_a_newer_version(json.dumps(beat).encode()), key=b"new")
    queue.flush()
    assert "Status: pending" in say(queue, "status", "order-1")
    assert "Newer workers: 1, which this fairlane is too old to read" in say(queue, "workers")
    stats = json.loads(say(queue, "monitor", "--json"))
    assert (stats["worker_count"], stats["newer_workers"]) == (1, 1)

    async def done() -> None:
        await asyncio.sleep(0)

    # A worker of today takes neither for a dead one whose transactions it had to end, nor for one of its own.
    with queue.worker(done):
        ended = queue.task("done")
        queue.send(ended)
        assert queue.wait_event(ended, "completed").worker.startswith("test-")
