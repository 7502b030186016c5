"""Bad handlers on a real worker: each has the outcome that docs/handlers.md says, and the tasks beside it complete.

What do these tests do? One worker of this process runs whatever leaves its process alive; what does not is done to
workers in processes of their own. Each row of the page's table names its test, and each test here has a row.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import bad_handlers
import pytest
from bad_handlers import FOREVER
from live_queue import headers_of, wait_until
from worker_processes import WorkerProcesses, worker_processes
from working_queue import WorkingQueue, working_queue

from fairlane.consumer import attempt, threads
from fairlane.consumer.retry import RetryPolicy
from fairlane.topics.events import StatusEvent

pytestmark = pytest.mark.kafka

TWICE = RetryPolicy(max_attempts=2, base_s=0.1, factor=1, jitter=0)
HANDLERS = (
    bad_handlers.on_the_loop,
    bad_handlers.on_a_thread,
    bad_handlers.in_a_process,
    bad_handlers.good,
    bad_handlers.swallows_its_cancellation,
    bad_handlers.makes_the_best_of_its_cancellation,
    bad_handlers.leaves_a_task,
    bad_handlers.blocks_the_loop,
)
WHERE = ("on_the_loop", "on_a_thread", "in_a_process")
PATIENCE_S = 0.3


@pytest.fixture(scope="module")
def queue(kafka: str) -> Iterator[WorkingQueue]:
    """A queue with one worker on it, which all of the tests share: what one of them does to it, the next would see."""
    policies = {
        **{handler.__name__: {"retry": TWICE} for handler in HANDLERS},
        "in_a_process": {"retry": TWICE, "isolation": "process", "memory_max_mib": 500},
    }
    with pytest.MonkeyPatch.context() as patch, working_queue(kafka) as queue:
        patch.setattr(attempt, "CANCEL_PATIENCE_S", PATIENCE_S)
        patch.setattr(threads, "INTERRUPT_PATIENCE_S", PATIENCE_S)
        with queue.worker(*HANDLERS, policies=policies, concurrency=6, loop_blocked_s=0.5, grace_s=20.0) as pool:
            yield queue
            FOREVER.set()
            assert pool.stop() == 0


@pytest.fixture(autouse=True)
def _goes_on(queue: WorkingQueue) -> Iterator[None]:
    """After every test the worker runs good tasks, on the loop, in a thread's stead and in a child."""
    yield
    tasks = [queue.task("good", b'{"number":%d}' % number, level=5) for number in range(6)]
    queue.send(*tasks)
    for task in tasks:
        queue.wait_event(task, "completed")


def ended(queue: WorkingQueue, handler: str, payload: str, *, timeout_ms: int = 0) -> StatusEvent:
    """What became of a task in the end."""
    task = queue.task(handler, payload.encode(), timeout_ms=timeout_ms)
    queue.send(task)
    wait_until(
        lambda: queue.events(task.id) and queue.events(task.id)[-1].state != "retrying", "its end", timeout_s=150
    )
    return queue.events(task.id)[-1]


def done(queue: WorkingQueue, what: str, where: str, *, timeout_ms: int = 0) -> StatusEvent:
    return ended(queue, where, f'{{"what":"{what}"}}', timeout_ms=timeout_ms)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(
    ("what", "error"), [("exits", "SystemExit"), ("interrupts", "KeyboardInterrupt"), ("is_odd", "OddError")]
)
def test_what_is_no_exception_is_a_failure_like_any_other(
    queue: WorkingQueue, what: str, error: str, where: str
) -> None:
    event = done(queue, what, where)
    assert (event.state, event.reason, event.attempt) == ("failed", "max_attempts", 2)
    assert event.error is not None
    assert event.error.type == error


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(
    ("what", "error", "says"),
    [
        ("is_unpicklable", "UnpicklableError", "1 is not 2"),
        ("is_silent", "SilentError", "<its message could not be made: ZeroDivisionError>"),
        ("is_long", "LongError", "y\n" * 1_000),
        ("recurses", "RecursionError", "maximum recursion depth exceeded"),
    ],
)
def test_an_exception_that_cannot_be_pickled_or_said_has_bounded_text(
    queue: WorkingQueue, what: str, error: str, says: str, where: str
) -> None:
    event = done(queue, what, where)
    assert (event.state, event.reason, event.attempt) == ("failed", "max_attempts", 2)
    assert event.error is not None
    assert event.error.type == error
    assert event.error.message.startswith(says)
    assert len(event.error.message) <= 2_000
    assert len(event.error.traceback) <= 8_001
    letter = next(each for each in queue.letters() if headers_of(each)["ce_id"] == event.id.encode())
    assert sum(len(value or b"") for value in headers_of(letter).values()) < 16_000


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("what", ["returns_an_object", "returns_itself", "returns_half_a_character"])
def test_a_result_that_is_no_json_is_a_failure_like_any_other(queue: WorkingQueue, what: str, where: str) -> None:
    event = done(queue, what, where)
    assert (event.state, event.reason, event.attempt) == ("failed", "max_attempts", 2)


@pytest.mark.parametrize("where", WHERE)
def test_a_result_over_the_limit_is_dead_at_once(queue: WorkingQueue, where: str) -> None:
    event = done(queue, "returns_too_much", where)
    assert (event.state, event.reason, event.attempt) == ("failed", "result_too_large", 1)


@pytest.mark.parametrize("what", ["kills", "crashes"])
def test_a_child_that_exits_or_crashes_is_a_worker_lost_and_dead_after_three(queue: WorkingQueue, what: str) -> None:
    event = done(queue, what, "in_a_process")
    assert (event.state, event.reason, event.attempt) == ("failed", "worker_lost", 1)
    assert event.error is not None
    assert ("SIGSEGV" if what == "crashes" else "exit code 7") in event.error.message


def test_a_child_that_allocates_8_gib_is_killed_at_its_limit_and_dead_after_three(queue: WorkingQueue) -> None:
    event = done(queue, "hoards", "in_a_process")
    assert (event.state, event.reason, event.attempt) == ("failed", "worker_lost", 1)
    assert event.error is not None
    assert "memory_max_mib is 500" in event.error.message


@pytest.mark.parametrize("where", ["on_a_thread", "in_a_process"])
def test_an_infinite_loop_off_the_event_loop_ends_when_its_time_is_up(queue: WorkingQueue, where: str) -> None:
    event = done(queue, "spins", where, timeout_ms=300)
    assert (event.state, event.reason, event.attempt) == ("failed", "max_attempts", 2)
    assert event.error is not None
    assert event.error.type == "AttemptTimeout"


def test_a_cancellation_that_is_swallowed_leaves_the_handler_behind_and_frees_its_slot(
    queue: WorkingQueue, caplog: pytest.LogCaptureFixture
) -> None:
    event = ended(queue, "swallows_its_cancellation", "{}", timeout_ms=300)
    assert (event.state, event.reason, event.attempt) == ("failed", "max_attempts", 2)
    assert event.error is not None
    assert event.error.type == "AttemptTimeout"
    assert "a handler of swallows_its_cancellation swallows its cancellation" in caplog.text


def test_a_result_in_answer_to_a_cancellation_is_a_result(queue: WorkingQueue) -> None:
    event = ended(queue, "makes_the_best_of_its_cancellation", "{}", timeout_ms=300)
    assert (event.state, bytes(event.result)) == ("completed", b'"what there was"')


def test_an_interruption_that_is_swallowed_leaves_the_thread_behind_and_frees_its_slot(
    queue: WorkingQueue, caplog: pytest.LogCaptureFixture
) -> None:
    event = done(queue, "swallows_interruptions", "on_a_thread", timeout_ms=300)
    assert (event.state, event.reason, event.attempt) == ("failed", "max_attempts", 2)
    assert event.error is not None
    assert event.error.type == "AttemptTimeout"
    assert "its thread is left behind" in caplog.text


@pytest.mark.parametrize("where", WHERE)
def test_a_thread_that_is_left_behind_goes_on_and_sends_nothing_any_more(queue: WorkingQueue, where: str) -> None:
    event = done(queue, "leaves_a_thread", where)
    assert (event.state, bytes(event.result)) == ("completed", b'"left"')


@pytest.mark.parametrize("how", ["exits", "stays"])
def test_an_asyncio_task_that_is_left_behind_ends_nobody(queue: WorkingQueue, how: str) -> None:
    event = ended(queue, "leaves_a_task", f'{{"how":"{how}"}}')
    assert event.state == "completed"
    if how == "exits":
        wait_until(lambda: bad_handlers.left_tasks[0].done(), "the task that was left to exit")


def test_a_handler_that_blocks_the_event_loop_is_named_and_the_loop_goes_on_after_it(
    queue: WorkingQueue, caplog: pytest.LogCaptureFixture
) -> None:
    event = ended(queue, "blocks_the_loop", '{"seconds":1.5}')
    assert event.state == "completed"
    assert "by the handler of blocks_the_loop" in caplog.text


# What ends a process, or should not keep one from ending, is done to workers in processes of their own.

APP = """
import asyncio, sys
sys.path.insert(0, {tests!r})
import bad_handlers
from fairlane import Fairlane, RetryPolicy

app = Fairlane("{queue}")
once = RetryPolicy(max_attempts=1)

@app.task(retry=once)
def allocates() -> int:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    return len(bytearray(8 << 30))

app.task("leaves_a_thread", retry=once)(bad_handlers.leaves_a_thread)
app.task("leaves_a_task", retry=once)(bad_handlers.leaves_a_task)

@app.task(retry=once)
async def leaves_an_executor() -> None:
    asyncio.get_running_loop().run_in_executor(None, bad_handlers.FOREVER.wait)

@app.task(retry=once)
async def spins() -> None:
    while True:
        pass
"""


@pytest.fixture
def app() -> str:
    return APP.replace("{tests!r}", repr(str(Path(__file__).parent)))


def test_memory_that_the_system_refuses_is_a_failure_like_any_other(kafka: str, app: str, tmp_path: Path) -> None:
    with working_queue(kafka) as queue, worker_processes(queue, app, tmp_path) as workers:
        workers.start("a")
        event = ended(queue, "allocates", "{}")
        assert (event.state, event.reason) == ("failed", "max_attempts")
        assert event.error is not None
        assert event.error.type == "MemoryError"
        assert workers.stop_all() == {"a": 0}


def test_a_worker_ends_in_time_whatever_its_handlers_left_behind(kafka: str, app: str, tmp_path: Path) -> None:
    with working_queue(kafka) as queue, worker_processes(queue, app, tmp_path) as workers:
        workers.start("a")
        for what, payload in (
            ("leaves_a_thread", "{}"),
            ("leaves_an_executor", "{}"),
            ("leaves_a_task", '{"how":"stays"}'),
        ):
            assert ended(queue, what, payload).state == "completed"
        assert workers.stop_all() == {"a": 0}, workers.log("a")
        assert "ending without" in workers.log("a")
        assert "left-behind" in workers.log("a")


def has_ended_by_a_signal(workers: WorkerProcesses) -> bool:
    """Whether it has ended; one more signal if it has not."""
    workers.signal("a", signal.SIGTERM)
    return not workers.runs("a")


def test_an_infinite_loop_on_the_event_loop_is_named_and_a_second_signal_ends_its_worker(
    kafka: str, app: str, tmp_path: Path
) -> None:
    with working_queue(kafka) as queue, worker_processes(queue, app, tmp_path) as workers:
        workers.start("a", "--grace", "1")
        task = queue.task("spins")
        queue.send(task)
        wait_until(lambda: "by the handler of spins" in workers.log("a"), "it is named")
        assert queue.running(task.id), "its heartbeats go on"
        assert workers.runs("a")
        wait_until(lambda: has_ended_by_a_signal(workers), "a second signal ends it")
        assert workers.wait("a") == 128 + signal.SIGTERM
        assert queue.events(task.id) == []


ROOT = Path(__file__).resolve().parent.parent


def test_the_table_and_the_tests_agree() -> None:
    page = (ROOT / "docs/handlers.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) >= 15
    named = set()
    for row in rows:
        tests = re.findall(r"`(test_\w+)` in `(test_\w+\.py)`", row)
        assert tests, f"a row without a test: {row}"
        for name, file in tests:
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file} has no {name}"
            if file == Path(__file__).name:
                named.add(name)
    here = set(re.findall(r"^def (test_\w+)\(", Path(__file__).read_text(), re.MULTILINE))
    assert here - named == {"test_the_table_and_the_tests_agree"}
