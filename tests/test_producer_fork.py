"""A process that forks, and one that ends without closing: run as a process of its own, to its very end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_queue import a_task, headers_of, live_queue, parcel, records

from fairlane.producer import TaskProducer
from fairlane.topics.connection import Connection
from fairlane.topics.names import QueueNames

pytestmark = pytest.mark.kafka

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def names(kafka: str) -> Iterator[QueueNames]:
    with live_queue(kafka) as names:
        yield names


def run(script: str, kafka: str, names: QueueNames) -> subprocess.CompletedProcess[str]:
    head = f"""
import os, sys, threading, warnings
sys.path.insert(0, {str(TESTS)!r})
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
from live_queue import a_task, parcel
from standin_settler import StandinSettler, completed
from fairlane.producer import TaskProducer
from fairlane.topics.connection import Connection
from fairlane.topics.errors import ResultTimeout
from fairlane.topics.names import QueueNames
names = QueueNames({names.queue!r})
producer = TaskProducer(Connection({kafka!r}), names, enqueue_timeout_s=60)
def send(task_id, **options): return producer.enqueue(parcel(a_task(names, task_id=task_id), **options))
"""
    command = [sys.executable, "-P", "-c", head + script]
    environ = {**os.environ, "KAFKA": kafka}
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environ)


def ids(kafka: str, topic: str) -> set[str]:
    return {(headers_of(message)["ce_id"] or b"").decode() for message in records(kafka, topic)}


def test_parent_and_forked_child_enqueue_each_with_a_client_of_its_own(kafka: str, names: QueueNames) -> None:
    script = """
send("before")
busy = [threading.Thread(target=lambda n=n: [send(f"meanwhile-{n}-{m}") for m in range(20)]) for n in range(4)]
for thread in busy: thread.start()
child = os.fork()
if child == 0:
    for number in range(5): send(f"child-{number}")
    producer.close()
    sys.exit(7)  # ends as any process does: modules, objects and clients are torn down
for thread in busy: thread.join()
send("after")
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""
    finished = run(script, kafka, names)
    assert finished.returncode == 7, finished.stderr
    assert not finished.stderr
    expected = {"before", "after", *(f"child-{n}" for n in range(5))}
    expected |= {f"meanwhile-{n}-{m}" for n in range(4) for m in range(20)}
    found = ids(kafka, names.lane(3))
    assert expected <= found


def test_a_forked_child_waits_for_results_itself_also_for_those_that_its_parent_gets_by_reply(
    kafka: str, names: QueueNames
) -> None:
    script = """
handle = send("asked", reply=True)
waited = send("waited")
try: waited.result(0.5)
except ResultTimeout: pass
child = os.fork()
if child == 0:
    sys.exit(0 if handle.result(60) == 1 and waited.result(60) == 2 else 9)
settler = StandinSettler(os.environ["KAFKA"], names)
settler.settle(completed("asked", 1), completed("waited", 2))
assert waited.result(60) == 2
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""
    finished = run(script, kafka, names)
    assert finished.returncode == 0, finished.stderr
    assert not finished.stderr


def test_a_process_that_does_not_close_delivers_what_nobody_waited_for(kafka: str, names: QueueNames) -> None:
    script = """
import asyncio
send("first")
async def go():
    calls = [asyncio.create_task(producer.aenqueue(parcel(a_task(names, task_id=f"unawaited-{n}")))) for n in range(50)]
    await asyncio.sleep(0)
asyncio.run(go())
"""
    finished = run(script, kafka, names)
    assert finished.returncode == 0, finished.stderr
    assert not finished.stderr
    assert {f"unawaited-{n}" for n in range(50)} <= ids(kafka, names.lane(3))


def test_a_client_that_broke_is_replaced(kafka: str, names: QueueNames) -> None:
    producer = TaskProducer(Connection(kafka), names)
    producer.enqueue(parcel(a_task(names)))
    broken = producer._slot.get()
    broken.broken = True
    producer.enqueue(parcel(a_task(names)))
    assert producer._slot.get() is not broken
    producer.close()
