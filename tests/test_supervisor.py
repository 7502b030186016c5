"""The supervisor of a pool: with processes of a few lines, and with real workers on a real Kafka that are killed."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_queue import wait_until
from waiting import WAIT_S
from worker_processes import WorkerProcesses, worker_processes
from working_queue import WorkingQueue, working_queue

from fairlane import context, pool_size, supervised, supervisor
from fairlane.consumer.restarts import RestartPolicy
from fairlane.consumer.scaling import ScalingPolicy
from fairlane.monitor.snapshot import collect
from fairlane.pool_size import PoolSize
from fairlane.slot_log import SlotLog
from fairlane.supervised import Line
from fairlane.supervisor import Supervisor
from fairlane.topics import events
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import UsageError
from fairlane.topics.events import Heartbeat, RunningTask

HASTY = RestartPolicy(base_s=0.01, max_s=0.05, young_s=60, deaths_max=3)
WORKS = "import socket, sys, time; socket.socket(fileno=int(sys.argv[1])).send(b'w\\n')\n"


class Pool:
    """A supervisor of processes that are a few lines of Python; `{slot}` in them is the slot, argv[1] the line."""

    def __init__(self, source: str, count: int = 1, *, size: PoolSize | None = None, grace_s: float = 30) -> None:
        self._out = io.BytesIO()
        names = [f"w-{slot}" for slot in range(count)]
        self._supervisor = Supervisor(
            names,
            lambda slot, line: [sys.executable, "-S", "-c", source.replace("{slot}", str(slot)), str(line)],
            grace_s=grace_s,
            policy=HASTY,
            size=size,
            out=self._out,
        )

    def run(self) -> int:
        return self._supervisor.run()

    @property
    def said(self) -> str:
        return self._out.getvalue().decode()

    @contextlib.contextmanager
    def signals_when(self, *steps: tuple[str, signal.Signals]) -> Iterator[None]:
        """Each signal is sent to this process when the text before it is what the processes have said."""

        def send() -> None:
            for text, number in steps:
                wait_until(lambda text=text: text in self.said, text)  # type: ignore[misc]
                os.kill(os.getpid(), number)

        thread = threading.Thread(target=send)
        thread.start()
        yield
        thread.join(60)


def test_a_crash_loop_ends_with_one_and_the_end_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool("print('no such table'); raise SystemExit(9)")
    assert pool.run() == 1
    assert pool.said == "w-0 | no such table\n" * 3
    assert "giving up on w-0: it died 3 times in a row within 60 s of its start" in caplog.text
    assert "exit code 9" in caplog.text
    assert "no such table" in caplog.text


@pytest.mark.parametrize("code", [2, 3, 4])
def test_what_cannot_start_is_not_started_again_and_its_code_is_the_pools(code: int) -> None:
    pool = Pool(f"print('began'); raise SystemExit({code})")
    assert pool.run() == code
    assert pool.said.count("began") == 1


def test_kafka_that_went_away_is_waited_for(tmp_path: Path) -> None:
    # It has worked, and is then unreachable for more times than a crash loop has.
    source = f"import pathlib; count = pathlib.Path({str(tmp_path)!r}) / 'count'\n"
    source += "with count.open('a') as file: file.write('x')\nlives = len(count.read_text())\n"
    pool = Pool(WORKS + source + "time.sleep(0.2 if lives == 1 else 0); sys.exit(3 if lives < 7 else 4)")
    assert pool.run() == 4
    assert len((tmp_path / "count").read_text()) == 7


def test_a_killed_process_is_started_again_and_the_others_go_on(tmp_path: Path) -> None:
    once = f"import os, pathlib; mark = pathlib.Path({str(tmp_path)!r}) / 'died'\n"
    once += "first = {slot} == 0 and not mark.exists()\nprint('began {slot}', first, flush=True)\n"
    once += "if first: mark.touch(); os.kill(os.getpid(), 9)\n"
    pool = Pool(WORKS + once + "time.sleep(60)", count=2)
    with pool.signals_when(("w-1 | began 1 False", signal.SIGCONT), ("began 0 False", signal.SIGTERM)):
        # SIGTERM ends these without more ado, which is nothing that failed.
        assert pool.run() == 0
    assert pool.said.count("began 0") == 2
    assert pool.said.count("began 1") == 1


def test_the_first_signal_drains_and_the_second_ends_at_once() -> None:
    stubborn = (
        "import signal; signal.signal(15, lambda *_: print('draining', flush=True)); print('began', flush=True)\n"
    )
    pool = Pool(stubborn + "import time\nwhile True: time.sleep(60)")
    with pool.signals_when(("began", signal.SIGINT), ("draining", signal.SIGTERM)):
        assert pool.run() == 143


def test_the_grace_exceeded_in_one_process_is_that_of_the_pool() -> None:
    source = (
        "import signal, sys; signal.signal(15, lambda *_: sys.exit({slot} * 6)); print('began {slot}', flush=True)\n"
    )
    pool = Pool(source + "import time\nwhile True: time.sleep(60)", count=2)
    with pool.signals_when(("began 0", signal.SIGCONT), ("began 1", signal.SIGTERM)):
        assert pool.run() == 6


REPORTS = """
import json, pathlib, socket, sys, threading, time
line = socket.socket(fileno=int(sys.argv[1]))
busy = pathlib.Path({folder!r}) / "busy"
def told():
    for said in line.makefile("rb"):
        pool = json.loads(said)
        print("of", pool["processes"], "processes,", pool["least"], "to", pool["most"], pool["reason"], flush=True)
threading.Thread(target=told, daemon=True).start()
print("began", flush=True)
line.sendall(b"w\\n")
while True:
    beat = {"worker": "w", "utilisation": 0.9 * busy.exists(), "buffered": 9, "partitions": ["q.p3/0", "q.p3/1"]}
    line.sendall(json.dumps(beat).encode() + b"\\n")
    time.sleep(0.02)
"""
NERVOUS = ScalingPolicy(1, 2, idle_s=0.3, busy_s=0.1, settle_s=0.05)


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    """The mark that makes the workers of `REPORTS` busy as long as it is there."""
    monkeypatch.setattr(pool_size, "LOOK_S", 0.02)
    caplog.set_level(logging.INFO, "fairlane.supervisor")
    mark = tmp_path / "busy"
    mark.touch()
    return mark


def test_a_busy_pool_grows_and_an_idle_one_shrinks_and_its_workers_and_the_log_are_told_why(
    busy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Pool(REPORTS.replace("{folder!r}", repr(str(busy.parent))), 2, size=PoolSize("shop", NERVOUS))

    def follow() -> None:
        wait_until(lambda: "w-1 | of 2 processes, 1 to 2 1 to 2 processes: 90% busy" in pool.said, "it grew")
        busy.unlink()
        wait_until(lambda: "w-0 | of 1 processes, 1 to 2 2 to 1 processes: 0% busy" in pool.said, "it shrank")
        wait_until(lambda: "w-1 ended with signal 15, as it was asked to" in caplog.text, "w-1 has ended")
        busy.touch()
        wait_until(lambda: pool.said.count("w-1 | began") == 2, "it grew again")
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=follow)
    thread.start()
    assert pool.run() == 0
    thread.join(60)
    assert pool.said.count("w-0 | began") == 1
    assert "running 1 worker processes from w-0 on" in caplog.text
    assert "shop: 1 to 2 processes: 90% busy" in caplog.text
    assert "shop: 2 to 1 processes: 0% busy" in caplog.text
    assert "starting it again" not in caplog.text


def test_a_worker_that_the_pool_goes_on_without_and_that_does_not_end_is_ended(
    busy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "DRAIN_MORE_S", 0.3)
    stubborn = "import signal\nif {slot}: signal.signal(15, lambda *_: print('draining', flush=True))\n"
    source = stubborn + REPORTS.replace("{folder!r}", repr(str(busy.parent)))
    pool = Pool(source, 2, size=PoolSize("shop", NERVOUS), grace_s=0)

    def follow() -> None:
        wait_until(lambda: "w-1 | began" in pool.said, "it grew")
        busy.unlink()
        wait_until(lambda: "w-1 ended with signal 9, as it was asked to" in caplog.text, "w-1 has ended")
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=follow)
    thread.start()
    assert pool.run() == 0
    thread.join(60)
    assert "w-1 | draining" in pool.said


def test_signals_mean_what_they_meant_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    Pool("raise SystemExit(2)").run()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("log_format", "line", "passed_on"),
    [
        ("text", b"12:00:00 INFO worker: x", b"w-0 | 12:00:00 INFO worker: x"),
        ("json", b'{"level":"info"}', b'{"slot":"w-0","level":"info"}'),
        # What the user prints is no JSON of ours, and looks like none.
        ("json", b"{}", b"w-0 | {}"),
        ("json", b"Traceback", b"w-0 | Traceback"),
        ("text", b"", b"w-0 | "),
        ("text", b"\xff\x00", b"w-0 | \xff\x00"),
    ],
)
def test_a_line_is_passed_on_with_the_name_of_its_slot(log_format: str, line: bytes, passed_on: bytes) -> None:
    out = io.BytesIO()
    log = SlotLog("w-0", out, threading.Lock(), log_format)  # type: ignore[arg-type]
    log.follow(io.BytesIO(line + b"\n"))
    assert out.getvalue() == passed_on + b"\n"
    if line.startswith(b"{"):
        assert log_format == "text" or line == b"{}" or json.loads(passed_on)["slot"] == "w-0"


def test_a_reader_that_is_gone_does_not_stop_the_reading() -> None:
    out = io.BytesIO()
    out.close()
    log = SlotLog("w-0", out, threading.Lock(), "text")
    log.follow(io.BytesIO(b"a\n" * 50))
    assert log.end == "\n".join(["a"] * 15)


def test_a_descriptor_that_is_no_line_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no line to a supervisor"):
        Line(999)


def test_a_worker_says_that_it_works_and_how_it_is_and_hears_of_its_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    class Working:
        ready = threading.Event()
        beat = Heartbeat(worker="w-0", utilisation=0.5, running_tasks=(RunningTask("t", "send", 1, "shop.p5/0", 7),))
        pool: events.Pool | None = None
        stopped = threading.Event()

        def stop(self, grace_s: float) -> None:
            assert grace_s == supervised.ORPHAN_GRACE_S
            self.stopped.set()

    worker, ended = Working(), threading.Event()
    # What follows where a worker does not end is the end of its process.
    monkeypatch.setattr(supervised, "ORPHAN_END_S", 0)
    monkeypatch.setattr(os, "_exit", lambda _code: ended.set())
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    line = Line(theirs.detach())
    line.attach(worker)  # type: ignore[arg-type]
    worker.ready.set()
    try:
        with ours, ours.makefile("rb") as said:
            assert said.readline() == b"w\n"
            beat = events.decode_heartbeat(said.readline())
            assert beat is not None
            assert (beat.worker, beat.utilisation, beat.running_tasks) == ("w-0", 0.5, ())
            ours.sendall(b"no JSON\n" + PoolSize("shop", NERVOUS).told())
            wait_until(lambda: worker.pool == events.Pool("shop", 1, 1, 2), "the pool is known")
    finally:
        assert ended.wait(60)
        line._socket.close()
    assert worker.stopped.is_set()


# With real workers.

APP = """
import asyncio, os, sys
from fairlane import Fairlane

app = Fairlane("{queue}")

if os.environ.get("CRASH") and "--supervised" in sys.argv:
    print("cannot open the database", flush=True)
    os._exit(9)

@app.task()
async def work(number: int) -> int:
    await asyncio.sleep(0.01)
    return os.getpid()

@app.task()
async def long(number: int) -> int:
    await asyncio.sleep(120)
    return number
"""


@pytest.fixture
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka, partitions=6) as queue:
        yield queue


def send_work(queue: WorkingQueue, count: int) -> None:
    queue.send(*[queue.task("work", b'{"number":%d}' % number, level=number % 5 + 1) for number in range(count)])


def pids(workers: WorkerProcesses, slot: str) -> list[int]:
    """Of the processes that a slot has had, the newest last."""
    return [int(pid) for pid in re.findall(rf"started {slot}, pid (\d+)", workers.log("pool"))]


def runs(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_working(workers: WorkerProcesses, times: int) -> None:
    wait_until(
        lambda: workers.log("pool").count("working on queue") >= times or not workers.runs("pool"),
        f"{times} workers work",
    )
    assert workers.runs("pool"), workers.log("pool")


def send_until_all_work(queue: WorkingQueue, *processes: int, timeout_s: float = WAIT_S) -> int:
    """Send tasks until each of these processes has completed some; returns how many were sent."""
    sent = 0
    ends_at = time.monotonic() + timeout_s
    wanted = {str(pid) for pid in processes}
    before = len(queue.terminal())
    while not wanted <= {bytes(found[0].result).decode() for found in queue.terminal().values()}:
        assert time.monotonic() < ends_at, f"{wanted} have not all worked within {timeout_s:g} s"
        send_work(queue, 500)
        sent += 500
        queue.wait_ended(before + sent)
    return sent


@pytest.mark.kafka
@pytest.mark.parametrize("named", [True, False])
def test_a_killed_worker_of_two_is_back_nothing_is_lost_and_sigterm_drains(
    queue: WorkingQueue, tmp_path: Path, named: bool
) -> None:
    with worker_processes(queue, APP, tmp_path) as workers:
        workers.start("pool", "--processes", "2", *(["--name", "pool"] if named else []), "--grace", "20")
        wait_working(workers, 2)
        slots = sorted(set(re.findall(r"started (\S+-[01]), pid", workers.log("pool"))))
        assert len(slots) == 2
        assert not named or slots == ["pool-0", "pool-1"]
        first, other = (pids(workers, slot)[0] for slot in slots)
        sent = send_until_all_work(queue, first, other)
        listed = collect(queue.connection, queue.names, now_ms=now_ms()).workers
        assert [(worker.worker, worker.pid) for worker in listed] == list(zip(slots, (first, other), strict=True))
        send_work(queue, 2_000)
        queue.wait_ended(sent + 300)
        os.kill(first, signal.SIGKILL)
        wait_working(workers, 3)
        queue.wait_ended(sent + 2_000)
        second = pids(workers, slots[0])[1]
        sent += 2_000 + send_until_all_work(queue, second, other)
        wait_until(lambda: not queue.lag(), "lag 0")
        workers.signal("pool", signal.SIGTERM)
        assert workers.wait("pool") == 0, workers.log("pool")
        assert not runs(second)
        assert not runs(other)
    assert Counter(len(found) for found in queue.terminal().values()) == {1: sent}
    said = workers.log("pool")
    assert f"{slots[0]} ended with signal 9; starting it again in 0.5 s" in said
    assert f"{slots[1]} | " in said


@pytest.mark.kafka
def test_no_worker_outlives_a_killed_supervisor_and_what_ran_is_handed_back(
    queue: WorkingQueue, tmp_path: Path
) -> None:
    task = queue.task("long", b'{"number":1}')
    queue.send(task)
    attempts = []

    async def long(number: int) -> int:
        attempts.append((context().attempt, context().task.handbacks))
        return number

    with worker_processes(queue, APP, tmp_path) as workers:
        workers.start("pool", "--processes", "2", "--name", "pool")
        wait_working(workers, 2)
        wait_until(lambda: queue.running(task.id), "it runs")
        children = [pids(workers, f"pool-{slot}")[0] for slot in (0, 1)]
        workers.signal("pool", signal.SIGKILL)
        wait_until(lambda: not any(runs(pid) for pid in children), "they are gone")
    with queue.worker(long):
        queue.wait_event(task, "completed")
    assert attempts == [(1, 1)]


def test_a_pool_of_workers_that_cannot_live_ends_with_one_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "shop_tasks.py").write_text(APP.replace("{queue}", "shop"))
    code, said = run_pool(tmp_path, "shop_tasks:app", CRASH="1")
    assert code == 1, said
    why = "died 5 times in a row within 10 s of its start, the last time with exit code 9"
    assert re.search(rf"giving up on pool-[01]: it {why}. The end of its log:\n    cannot open the database", said), (
        said
    )


def test_a_pool_without_kafka_ends_with_three_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "shop_tasks.py").write_text(APP.replace("{queue}", "shop"))
    code, said = run_pool(tmp_path, "shop_tasks:app")
    assert code == 3, said
    assert "fairlane kafka start" in said


def run_pool(folder: Path, *arguments: str, **environ: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "fairlane", "worker", *arguments, "--name", "pool"],
        cwd=folder,
        env={
            **os.environ, "FAIRLANE_QUEUE_URL": "kafka://127.0.0.1:9/shop", "FAIRLANE_PROCESSES": "2", "NO_COLOR": "1",
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stderr
