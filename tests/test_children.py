"""Handlers in child processes: what comes of an attempt whatever it does to its process, and that nothing is left."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import process_tasks
import pytest
from left_behind import Mark
from waiting import wait_until
from worker_parts import config, delivery

from fairlane.consumer.attempt import Attempts
from fairlane.consumer.children import Children
from fairlane.consumer.handlers import Handler, Middleware
from fairlane.consumer.outcome import Completed, Dead, HandedBack, Outcome, Retrying
from fairlane.consumer.retry import RetryPolicy
from fairlane.consumer.threads import Threads
from fairlane.topics.errors import UsageError
from fairlane.topics.events import ErrorInfo
from fairlane.topics.payload import Signature

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ONCE_MORE = RetryPolicy(max_attempts=2, base_s=5, jitter=0)


def handler_of(function: Callable[..., Any], **policies: Any) -> Handler:
    signature = Signature.of(function, task_type="send")
    return Handler("send", function, signature, **{"retry": ONCE_MORE, "isolation": "process", **policies})


class Bench:
    """Attempts of one handler with the children of a worker."""

    def __init__(self, attempts: Attempts, children: Children) -> None:
        self.attempts = attempts
        self.children = children

    async def run(self, payload: bytes = b"{}", **fields: Any) -> Outcome:
        return await self.attempts.run(delivery(payload=payload, **fields))

    async def pid(self) -> int:
        outcome = await self.run()
        assert isinstance(outcome, Completed), outcome
        return int(outcome.result)

    async def cut(self, started: Path, *, leaving: bool = False) -> Outcome:
        """An attempt that is cancelled when its handler has made the file."""
        task = asyncio.ensure_future(self.run(b'{"started":"%s"}' % str(started).encode()))
        await asyncio.to_thread(wait_until, started.exists, "the handler to begin")
        self.attempts.leaving = leaving
        task.cancel()
        return await task


def serve(
    function: Callable[..., Any],
    body: Callable[[Bench], Awaitable[Any]],
    *,
    middleware: tuple[Middleware, ...] = (),
    child_idle_s: float | None = None,
    **policies: Any,
) -> Any:
    """Run a coroutine with a worker's children, which are all gone and waited for afterwards."""

    async def main() -> Any:
        handlers = {"send": handler_of(function, **policies)}
        told = config(concurrency=4, child_idle_s=child_idle_s)
        async with asyncio.timeout(60), Children(told, handlers, decode=bool(middleware)) as children:
            attempts = Attempts(config(), handlers, middleware, Threads(), children)
            return await body(Bench(attempts, children))

    found = asyncio.run(main())
    assert children_of_ours() == [], "no child is left, and no zombie"
    return found


def attempt(function: Callable[..., Any], payload: bytes = b"{}", **given: Any) -> Outcome:
    """What one attempt leads to."""
    policies = {
        name: given.pop(name) for name in ("timeout_s", "retry", "memory_max_mib", "on_invalid") if name in given
    }
    outcome: Outcome = serve(function, lambda bench: bench.run(payload, **given), **policies)
    return outcome


def children_of_ours() -> list[int]:
    """Child processes that run fairlane's child, or are zombies."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdecimal():
            try:
                fields = (directory / "stat").read_text().rpartition(")")[2].split()
                command = (directory / "cmdline").read_bytes()
            except OSError:
                continue
            if int(fields[1]) == os.getpid() and (fields[0] == "Z" or b"child_main" in command):
                found.append(int(directory.name))
    return found


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def error_of(outcome: Outcome) -> ErrorInfo:
    assert isinstance(outcome, Retrying | Dead), outcome
    assert outcome.error is not None
    return outcome.error


# What a handler returns, raises and sends.


@pytest.mark.parametrize("function", [process_tasks.add, process_tasks.add_async])
def test_a_handler_gets_its_payload_and_its_result_is_json(function: Callable[..., Any]) -> None:
    outcome = attempt(function, b'{"a":1,"b":2}')
    assert isinstance(outcome, Completed)
    assert outcome.result == b"3"


def test_a_child_is_another_process_and_runs_one_attempt_after_the_other() -> None:
    async def body(bench: Bench) -> list[int]:
        return [await bench.pid() for _ in range(3)]

    pids = serve(process_tasks.pid, body)
    assert len(set(pids)) == 1
    assert os.getpid() not in pids


def test_an_exception_is_retried_with_its_traceback_also_if_it_cannot_be_pickled() -> None:
    outcome = attempt(process_tasks.fail)
    assert isinstance(outcome, Retrying)
    assert outcome.task.attempt == 2
    assert outcome.task.worker_lost == 0
    error = error_of(outcome)
    assert (error.type, error.message) == ("Unpicklable", "1 is not 2")
    assert "process_tasks.py" in error.traceback
    assert "raise Unpicklable(1, 2)" in error.traceback


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (RetryPolicy(fatal=(OSError,)), "fatal"),
        (RetryPolicy(retry_on=(ValueError,)), "fatal"),
        (RetryPolicy(retry_on=(process_tasks.Unpicklable,)), ""),
        (RetryPolicy(max_attempts=1), "max_attempts"),
    ],
)
def test_the_retry_policy_judges_an_exception_by_its_classes(policy: RetryPolicy, reason: str) -> None:
    outcome = attempt(process_tasks.fail, retry=policy)
    assert (outcome.reason if isinstance(outcome, Dead) else "") == reason


@pytest.mark.parametrize("function", [process_tasks.leave, process_tasks.leave_async])
def test_leaving_by_sys_exit_is_the_handlers_failure_and_no_lost_child(function: Callable[..., Any]) -> None:
    async def body(bench: Bench) -> None:
        outcome = await bench.run()
        assert error_of(outcome).type == "SystemExit"
        await bench.run()
        (child,) = bench.children._idle.of("send")
        assert (child.calls, child.ended) == (2, None)

    serve(function, body)


def test_what_a_handler_asks_for_is_done() -> None:
    later = attempt(process_tasks.ask_later)
    assert isinstance(later, Retrying)
    assert later.task.not_before_ms - later.finished_ms == 7_500
    assert error_of(later).message == "the bank is closed"
    rejected = attempt(process_tasks.reject)
    assert isinstance(rejected, Dead)
    assert (rejected.reason, error_of(rejected).message) == ("rejected", "no such order")


def test_a_payload_that_does_not_fit_is_dead_or_waits_and_costs_no_attempt() -> None:
    outcome = attempt(process_tasks.add, b'{"a":"x"}')
    assert isinstance(outcome, Dead)
    assert outcome.reason == "invalid_payload"
    assert "a:" in error_of(outcome).message
    waiting = attempt(process_tasks.add, b'{"a":"x"}', on_invalid="retry")
    assert isinstance(waiting, Retrying)
    assert waiting.task.attempt == 1


def test_a_result_that_is_no_json_is_a_failure_like_any_other() -> None:
    assert error_of(attempt(process_tasks.return_nothing_sayable)).type == "InvalidResult"


def test_what_a_handler_sends_is_part_of_its_outcome_in_order() -> None:
    outcome = attempt(process_tasks.send)
    assert isinstance(outcome, Completed)
    first, task, last = outcome.outbox
    assert (first.topic, first.value, first.key, first.headers) == ("audit-log", b'{"n":1}', b"k", (("h", b"v"),))
    assert (task.topic, task.value, dict(task.headers)["ce_id"]) == ("shop.p2", b"[1]", b"sent-1")
    assert (last.value, last.key) == (None, b"k")


def test_a_handler_knows_its_attempt_and_its_trace() -> None:
    outcome = attempt(process_tasks.know, attempt=2, timeout_s=30.0, traceparent=TRACEPARENT)
    assert isinstance(outcome, Completed)
    assert outcome.result == b'["t-7",2,true,false,"0af7651916cd43dd8448eb211c80319c"]'


def test_what_a_child_logs_is_logged_here_with_its_task(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        outcome = attempt(process_tasks.say, b'{"text":"hello"}', traceparent=TRACEPARENT)
    assert isinstance(outcome, Completed)
    by_context, by_other = (vars(record) for record in caplog.records if record.process != os.getpid())
    assert (by_context["name"], by_context["levelname"], by_context["n"]) == ("fairlane.task", "WARNING", 1)
    assert by_context["message"] == "by the context: hello"
    for found in (by_context, by_other):
        assert (found["task_id"], found["task_type"], found["attempt"]) == ("t-7", "send", 1)
        assert found["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert "ValueError: hello" in by_other["exc_text"]


def test_middleware_wraps_the_attempt_in_the_worker_and_sees_the_result_as_json() -> None:
    async def double(context: Any, call_next: Callable[[], Awaitable[Any]]) -> Any:
        assert threading.current_thread() is threading.main_thread()
        return 2 * await call_next()

    outcome = serve(process_tasks.add, lambda bench: bench.run(b'{"a":4}'), middleware=(double,))
    assert isinstance(outcome, Completed)
    assert outcome.result == b"10"


# What it does to its process.


@pytest.mark.parametrize(
    ("function", "how"),
    [
        (process_tasks.exit_at_once, "ended by itself with exit code 7"),
        (process_tasks.segfault, "was killed by SIGSEGV"),
    ],
)
def test_an_attempt_whose_process_dies_is_a_worker_lost_and_costs_no_attempt(
    function: Callable[..., Any], how: str
) -> None:
    async def body(bench: Bench) -> tuple[Outcome, Outcome]:
        outcomes = await bench.run(), await bench.run(worker_lost=2)
        assert bench.children.ends == {"died": 2}
        return outcomes

    first, third = serve(function, body)
    assert isinstance(first, Retrying)
    assert (first.task.attempt, first.task.worker_lost) == (1, 1)
    assert first.task.not_before_ms > first.finished_ms
    assert (error_of(first).type, error_of(first).message) == ("ChildLost", f"the child process {how}")
    assert isinstance(third, Dead)
    assert (third.reason, third.delivery.kept.worker_lost) == ("worker_lost", 3)


def test_a_dead_letter_of_a_crash_says_where_it_was() -> None:
    trace = error_of(attempt(process_tasks.segfault)).traceback
    assert "Segmentation fault" in trace
    assert "process_tasks.py" in trace


def test_losses_that_only_the_partition_knows_count_too() -> None:
    async def body(bench: Bench) -> Outcome:
        return await bench.attempts.run(delivery(payload=b"{}", worker_lost=1, losses=1))

    outcome = serve(process_tasks.exit_at_once, body)
    assert isinstance(outcome, Dead)
    assert outcome.delivery.kept.worker_lost == 3


def test_others_run_while_one_dies(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        other = asyncio.ensure_future(bench.cut(tmp_path / "started"))
        outcome = await bench.run(b'{"started":"/no/such/folder/x"}')
        assert error_of(outcome).type == "FileNotFoundError"
        assert isinstance(await other, Completed)

    serve(process_tasks.be_asked, body)


@pytest.mark.parametrize("function", [process_tasks.spin, process_tasks.hold_the_interpreter])
def test_an_attempt_without_end_is_killed_when_its_time_is_up(function: Callable[..., Any], tmp_path: Path) -> None:
    payload = b'{"started":"%s"}' % str(tmp_path / "started").encode() if function is process_tasks.spin else b"{}"

    async def body(bench: Bench) -> tuple[Outcome, float]:
        begun = time.monotonic()
        outcome = await bench.run(payload)
        assert (bench.children.ends, bench.children.alive) == ({"killed": 1}, 0)
        return outcome, time.monotonic() - begun

    outcome, took_s = serve(function, body, timeout_s=0.3)
    assert error_of(outcome).type == "AttemptTimeout"
    assert isinstance(outcome, Retrying)
    assert (outcome.task.attempt, outcome.task.worker_lost) == (2, 0)
    assert took_s < 0.3 + 1.5


def test_what_a_handler_started_is_killed_with_it(tmp_path: Path) -> None:
    started = tmp_path / "started"
    outcome = attempt(process_tasks.spin_with_a_child, b'{"started":"%s"}' % str(started).encode(), timeout_s=1.0)
    assert error_of(outcome).type == "AttemptTimeout"
    wait_until(lambda: not runs(int(started.read_text())), "the handler's own child to be gone")


def test_a_child_that_uses_too_much_memory_is_killed_and_counted_as_lost() -> None:
    outcome = attempt(process_tasks.use_memory, b'{"mib":4000}', memory_max_mib=200)
    assert isinstance(outcome, Retrying)
    assert outcome.task.worker_lost == 1
    assert "memory_max_mib is 200" in error_of(outcome).message


@pytest.mark.parametrize("function", [process_tasks.be_asked, process_tasks.be_cancelled])
def test_a_handler_that_ends_when_it_is_asked_keeps_its_child(function: Callable[..., Any], tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        outcome = await bench.cut(tmp_path / "started")
        assert isinstance(outcome, Completed)
        assert outcome.result == b'"partial"'
        (child,) = bench.children._idle.of("send")
        assert child.ended is None

    serve(function, body)


def test_an_attempt_that_a_shutdown_cuts_off_is_handed_back(tmp_path: Path) -> None:
    outcome = serve(process_tasks.spin, lambda bench: bench.cut(tmp_path / "started", leaving=True))
    assert isinstance(outcome, HandedBack)


# Children come and go.


def test_a_child_makes_room_for_a_new_one_after_so_many_attempts() -> None:
    async def body(bench: Bench) -> list[int]:
        pids = [await bench.pid() for _ in range(5)]
        assert (bench.children.started, bench.children.alive, bench.children.ends) == (3, 1, {"recycled": 2})
        return pids

    pids = serve(process_tasks.pid, body, max_tasks_per_child=2)
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


def test_a_child_that_has_grown_makes_room_for_a_new_one() -> None:
    async def body(bench: Bench) -> None:
        assert isinstance(await bench.run(b'{"mib":1}'), Completed)
        (first,) = bench.children._idle.of("send")
        assert isinstance(await bench.run(b'{"mib":200}'), Completed)
        assert bench.children._idle.of("send") == []
        await asyncio.gather(*bench.children._retiring)
        assert first.ended is not None
        assert first.ended.how.endswith("exit code 0")

    serve(process_tasks.use_memory, body, max_mib_per_child=200)


def test_there_are_as_many_children_as_attempts_at_once() -> None:
    async def body(bench: Bench) -> None:
        await asyncio.gather(*[bench.run() for _ in range(3)])
        await asyncio.gather(*[bench.run() for _ in range(3)])
        assert len(bench.children._idle.of("send")) == 3

    serve(process_tasks.pid, body)


def test_children_that_nobody_needs_any_more_end_in_order_but_for_one() -> None:
    async def body(bench: Bench) -> None:
        children = bench.children
        await at_once(children, *[handler_of(process_tasks.pid)] * 4)
        first, second, third, last = children._idle.of("send")
        await asyncio.gather(first._ending, second._ending, third._ending)
        assert children.ends == {"idle": 3}
        assert {child.ended and child.ended.how for child in (first, second, third)} == {
            "the child process ended by itself with exit code 0"
        }
        assert children_of_ours() == [last.pid], "they are waited for"
        assert await bench.pid() == last.pid
        assert children.started == 4

    serve(process_tasks.pid, body, child_idle_s=1.0)


def test_a_child_that_died_while_it_was_idle_is_counted_as_that() -> None:
    async def body(bench: Bench) -> None:
        children = bench.children
        await at_once(children, *[handler_of(process_tasks.pid)] * 2)
        died, lives = children._idle.take_all()
        os.kill(died.pid, signal.SIGKILL)
        await died._ending
        for child in (died, lives):
            children._idle.put("send", child, 0.0)
        children._end_idle()
        assert (children.ends, children.alive) == ({"died": 1}, 1)

    serve(process_tasks.pid, body, child_idle_s=1.0)


def of_two_types(concurrency: int, body: Callable[[Children, Handler, Handler], Awaitable[None]]) -> None:
    async def main() -> None:
        one, other = kinds = [replace(handler_of(process_tasks.pid), type=kind) for kind in ("one", "other")]
        told, handlers = config(concurrency=concurrency), {each.type: each for each in kinds}
        async with asyncio.timeout(60), Children(told, handlers) as children:
            await body(children, one, other)

    asyncio.run(main())


def test_children_of_one_type_make_room_for_those_of_another_also_while_these_start() -> None:
    async def body(children: Children, one: Handler, other: Handler) -> None:
        for kind in (one, other):
            await at_once(children, *[kind] * 3)
            assert children.alive <= 3 + 2
        assert len(children._idle.of("other")) == 3

    of_two_types(3, body)


def test_types_that_share_full_slots_do_not_end_each_others_children() -> None:
    async def body(children: Children, one: Handler, other: Handler) -> None:
        for _ in range(5):
            await at_once(children, one, one, other)
            await at_once(children, one, other, other)
        assert children.started == 4

    of_two_types(3, body)


async def at_once(children: Children, *handlers: Handler) -> None:
    """Take children for attempts that run at the same time, and give them back."""
    async with AsyncExitStack() as stack:
        await asyncio.gather(*[stack.enter_async_context(children.child_for(each)) for each in handlers])


def test_children_that_are_busy_are_killed_when_the_worker_ends(tmp_path: Path) -> None:
    started = tmp_path / "started"

    async def body(bench: Bench) -> Outcome:
        task = asyncio.ensure_future(bench.run(b'{"started":"%s"}' % str(started).encode()))
        await asyncio.to_thread(wait_until, started.exists, "the handler to begin")
        await bench.children.close()
        return await task

    assert "the worker ended" in error_of(serve(process_tasks.spin, body)).message


def test_children_die_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    mark, started = Mark(), tmp_path / "started"
    worker = [sys.executable, "-c", "import test_children, sys; test_children.spin_for_ever(sys.argv[1])", str(started)]
    environ = {**mark.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(worker, env=environ) as process:
        try:
            wait_until(started.exists, "the handler to begin")
            assert len(mark.processes()) == 2
        finally:
            process.kill()
    mark.wait_until_none()


def spin_for_ever(started: str) -> None:
    """A program that has a child which will not end by itself."""
    attempt(process_tasks.spin, b'{"started":"%s"}' % started.encode())


def test_a_child_whose_attempt_is_taken_away_while_it_starts_is_killed(tmp_path: Path) -> None:
    """At every step of its start: the wait for its process, for its pipe, for its word that it is ready."""

    async def body(bench: Bench) -> None:
        (warm,) = bench.children._idle.take_all()
        await warm.stop()
        bench.attempts.leaving = True
        for turns in range(12):
            task = asyncio.ensure_future(bench.run())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            if turns:
                assert isinstance(await task, HandedBack)
        assert len(bench.children._busy) == 0

    serve(process_tasks.pid, body)


# What cannot run in a process.


def test_a_function_that_no_other_process_can_import_is_refused_when_it_is_registered() -> None:
    def inner() -> None: ...

    with pytest.raises(UsageError, match="top level of a module"):
        handler_of(inner)
    with pytest.raises(UsageError, match="top level of a module"):
        handler_of(lambda: None)


def test_a_function_that_another_one_has_replaced_is_refused_when_the_worker_starts() -> None:
    with pytest.raises(UsageError, match="is another function"):
        serve(process_tasks.the_first, lambda bench: bench.run())


def test_a_script_cannot_be_imported_and_the_worker_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_tasks.pid, "__module__", "__main__")
    with pytest.raises(UsageError, match="the script that was started"):
        serve(process_tasks.pid, lambda bench: bench.run())


def test_a_module_that_a_child_cannot_import_is_told_when_the_worker_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text(
        f"import os\nif os.getpid() != {os.getpid()}:\n    raise OSError('not here')\ndef work() -> None: ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # type: ignore[import-not-found]

    with pytest.raises(UsageError, match="OSError: not here"):
        serve(only_here.work, lambda bench: bench.run())


@pytest.mark.parametrize("name", ["memory_max_mib", "max_tasks_per_child", "max_mib_per_child"])
def test_limits_of_a_child_are_for_children_and_are_numbers(name: str) -> None:
    with pytest.raises(UsageError, match="Say isolation"):
        handler_of(process_tasks.add, isolation="thread", **{name: 5})
    with pytest.raises(UsageError, match=f"{name}=0"):
        handler_of(process_tasks.add, **{name: 0})
