"""Each right that a role is said to need is needed: without it an error names it, and once it is given work goes on.

What do these tests do? They give somebody new all rights of a role on a broker that allows nothing else, take one away,
let them do what it is for, read what they are told, and give it back. One worker lives through all that a worker may
lack; what it needs to start is looked at apart. test_every_right.py goes through all topics of a kind.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from live_queue import wait_until
from rights_crew import (
    Crew,
    add_row,
    declared,
    fairlane,
    listening,
    names_it,
    of,
    ok,
    rights_crew,
    somebody,
    without_a_row,
)
from secured_kafka import SecuredKafka
from worker_processes import worker_processes
from working_queue import WorkingQueue, working_queue

from fairlane import Fairlane
from fairlane.consumer.pool import WorkerPool
from fairlane.monitor.control import Controller
from fairlane.monitor.rerun import run_rerun
from fairlane.monitor.rerun_job import RerunJob
from fairlane.monitor.schedules import ScheduleKeeper
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.check import check_queue
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import RightMissing
from fairlane.topics.names import QueueNames
from fairlane.topics.rights import ROLES, Right, Role, rights_of
from fairlane.topics.topology import Topology

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def shop(secured: SecuredKafka) -> Iterator[WorkingQueue]:
    with working_queue(secured.admin.bootstrap, partitions=1, name=f"t-{uuid.uuid4().hex[:8]}") as queue:
        yield queue


@pytest.fixture(scope="module")
def crew(secured: SecuredKafka, shop: WorkingQueue) -> Iterator[Crew]:
    with rights_crew(secured, shop) as crew:
        yield crew


# A worker.


@pytest.mark.parametrize(
    ("operation", "which", "task_type", "ends"),
    [
        ("Read", "workers", "", ""),
        ("Read", "control", "", ""),
        ("Read", "events", "", ""),
        ("Write", "dlq", "dead", "failed"),
        ("Write", "status", "ok", "completed"),
        ("Write", "workers", "", ""),
        ("Write", "replies", "answers", "completed"),
        ("Read", "group", "ok", "completed"),
        ("Write", "starts", "ok", "completed"),
    ],
)
def test_a_worker_says_what_it_lacks_and_goes_on_when_it_has_it(
    crew: Crew, operation: str, which: str, task_type: str, ends: str
) -> None:
    before = crew.does("ok")
    crew.queue.wait_event(before, "completed")
    right = of("worker", crew.queue.names, operation, which)
    crew.said.lines.clear()
    crew.secured.take(crew.user, [right])
    reply: dict[str, Any] = {"reply_to": f"{crew.queue.names.replies}:0"} if task_type == "answers" else {}
    task = crew.does("ok" if reply else task_type, **reply) if task_type else None
    wait_until(lambda: crew.told(right), f"it says that it lacks {right}: {crew.said.lines}", timeout_s=20)
    crew.secured.give(crew.user, [right])
    if task is not None:
        crew.queue.wait_event(task, ends, timeout_s=40)


def test_a_worker_that_may_not_take_a_cancel_back_says_so_and_the_task_is_cancelled(crew: Crew) -> None:
    right = of("worker", crew.queue.names, "Write", "control")
    crew.said.lines.clear()
    crew.secured.take(crew.user, [right])
    task = crew.queue.task("ok")
    by = Controller(crew.secured.admin, crew.queue.names, crew.queue.lanes, who="ann", via="cli", timeout_s=30)
    by.cancel([task.id])
    # Not before the worker has heard of it.
    crew.queue.send(msgspec.structs.replace(task, not_before_ms=now_ms() + 3_000))
    crew.queue.wait_event(task, "cancelled")
    wait_until(lambda: crew.told(right), f"it says that it lacks {right}: {crew.said.lines}", timeout_s=20)
    crew.secured.give(crew.user, [right])


def test_a_handler_that_sends_to_where_it_may_not_is_dead_and_holds_up_nobody(crew: Crew) -> None:
    """Kafka refuses the topic before anything of the transaction is there, and no report names the record."""
    task, beside = crew.does("elsewhere"), crew.does("ok")
    assert crew.queue.wait_event(beside, "completed").attempt == 1
    died = crew.queue.wait_event(task, "failed")
    assert (died.reason, died.attempt) == ("outbox_failed", 1)
    assert died.error is not None
    assert names_it(died.error.message, crew.user, Right("topic", "somebody-elses", "Write"))


@pytest.mark.parametrize(("operation", "which"), [("Read", "group"), ("Write", "starts")])
def test_a_worker_that_starts_without_a_right_begins_when_it_has_it(
    secured: SecuredKafka, operation: str, which: str
) -> None:
    with listening() as said, working_queue(secured.admin.bootstrap, partitions=1) as queue:
        user = somebody(secured, "worker", queue.names)
        right = of("worker", queue.names, operation, which)
        secured.take(user, [right])
        pool = WorkerPool(replace(queue.config(), connection=user.connection))
        pool.register_handler("ok", ok)
        task = queue.task("ok")
        queue.send(task)
        with pool:
            wait_until(lambda: any(names_it(line, user, right) for line in said.lines), f"it lacks {right}")
            secured.give(user, [right])
            queue.wait_event(task, "completed", timeout_s=40)


APP = """
from fairlane import Fairlane, every

app = Fairlane("{queue}")

@app.schedule(every(1))
@app.task
async def ok() -> None:
    pass
"""


def test_a_worker_says_what_it_lacks_to_own_schedules_and_does_when_it_has_it(
    secured: SecuredKafka, tmp_path: Path
) -> None:
    with working_queue(secured.admin.bootstrap, partitions=1) as queue:
        user, names = somebody(secured, "worker", queue.names), queue.names
        define, write, read = (
            of("worker", names, *each) for each in (("Write", "events"), ("Write", "state"), ("Read", "state"))
        )
        # Whoever may not even see it has no schedules.
        secured.give(user, [Right("topic", names.state, "Describe")])
        secured.take(user, [define, write])
        keeper = ScheduleKeeper(secured.admin, names, who="ann", via="cli", timeout_s=20)
        with worker_processes(queue, APP, tmp_path) as workers:

            def told(name: str, right: Right) -> None:
                wait_until(lambda: names_it(workers.log(name), user, right), f"it lacks {right}", timeout_s=60)
                secured.give(user, [right])

            url = f"kafka://{user.bootstrap}/{names.queue}"
            workers.start("a", "--queue-url", url, env=user.environ(names.queue))
            told("a", define)
            told("a", write)
            wait_until(lambda: any(each.fired for each in keeper.all()), "it is due", timeout_s=60)
            workers.signal("a", signal.SIGKILL)
            workers.wait("a")
            secured.take(user, [read])
            workers.start("b", "--queue-url", url, env=user.environ(names.queue))
            told("b", read)
            wait_until(lambda: "own 1 schedules" in workers.log("b"), "it owns them", timeout_s=40)
            workers.stop_all()


# Who enqueues, and who looks and mends: the commands that people type.

OK = ("enqueue", "--type", "ok", "--payload", "{}", "--log-level", "warning")


@pytest.mark.parametrize(
    ("role", "operation", "which", "command"),
    [
        ("producer", "Write", "p3", OK),
        ("producer", "Write", "retry-1s", (*OK, "--delay", "1s")),
        ("producer", "Describe", "group", (*OK, "--wait", "20s")),
        ("monitor", "Read", "p3", ("monitor", "--once")),
        ("monitor", "Read", "workers", ("workers",)),
        ("monitor", "Read", "dlq", ("dlq", "list")),
        ("monitor", "Read", "audit", ("dlq", "list")),
        ("monitor", "Read", "status", ("status", "{task}")),
        ("monitor", "Read", "control", ("control", "list")),
        ("monitor", "Read", "state", ("schedule", "list")),
        ("monitor", "Describe", "group", ("monitor", "--once")),
        ("operator", "Write", "p3", ("dlq", "replay", "--all", "--again", "--yes")),
        ("operator", "Write", "audit", ("dlq", "replay", "--all", "--again", "--yes")),
        ("operator", "Write", "control", ("pause", "--lane", "p2", "--for", "1s")),
        ("operator", "Write", "events", ("schedule", "add", "x", "--type", "ok", "--every", "1h")),
        ("operator", "Write", "replay", ("dlq", "replay", "--all", "--again", "--yes")),
        ("operator", "Delete", "dlq", ("dlq", "purge", "--all", "--replayed", "--yes")),
        ("admin", "AlterConfigs", "dlq", ("topics", "mend", "--yes")),
        ("admin", "Alter", "p3", ("topics", "grow", "--partitions", "2", "--yes")),
    ],
)
def test_a_command_names_the_right_that_it_lacks_and_works_with_it(
    crew: Crew, role: Role, operation: str, which: str, command: tuple[str, ...]
) -> None:
    names = crew.queue.names
    if role == "operator":
        crew.queue.wait_event(crew.does("dead"), "failed")
    task = crew.does("ok")
    crew.queue.wait_event(task, "completed")
    typed = [word.replace("{task}", task.id) for word in command]
    user = somebody(crew.secured, role, names)
    right = of(role, names, operation, which)
    crew.secured.take(user, [right])
    if operation == "AlterConfigs":
        TopicAdmin(crew.secured.admin, timeout_s=20).configure(right.name, {"retention.ms": "1000"})
    lacking = fairlane(user, names.queue, *typed)
    assert names_it(lacking.stdout + lacking.stderr, user, right), lacking
    crew.secured.give(user, [right])
    if operation == "Delete":
        crew.queue.wait_event(crew.does("dead"), "failed")
    having = fairlane(user, names.queue, *typed)
    assert having.returncode == 0, having
    assert "has no right" not in having.stdout + having.stderr


def test_a_replay_of_tasks_has_an_id_of_its_own_and_no_other_right_than_that_of_letters(crew: Crew) -> None:
    names = crew.queue.names
    user = somebody(crew.secured, "operator", names)
    right = of("operator", names, "Write", "replay")
    crew.secured.take(user, [right])
    job = RerunJob(queue=names.queue, ends={})
    with pytest.raises(RightMissing) as caught:
        run_rerun(user.connection, names, job, who=user.name)
    assert names_it(str(caught.value), user, right)
    crew.secured.give(user, [right])
    assert run_rerun(user.connection, names, job, who=user.name).ended


@pytest.mark.parametrize(("operation", "which"), [("Describe", "replies"), ("DescribeConfigs", "status")])
def test_a_check_says_what_is_hidden_from_it(crew: Crew, operation: str, which: str) -> None:
    user = somebody(crew.secured, "monitor", crew.queue.names)
    right = of("monitor", crew.queue.names, operation, which)
    crew.secured.take(user, [right])
    said = fairlane(user, crew.queue.names.queue, "topics", "check", "--partitions", "1").stdout
    given = f"--add --allow-principal {user.principal} --operation {operation} --topic '{right.name}'"
    assert given in said
    add_row(user, right, next(line for line in said.splitlines() if given in line))


@pytest.mark.parametrize(("operation", "verb"), [("Create", "create"), ("Delete", "delete")])
def test_an_admin_that_may_not_make_or_delete_a_topic_is_told_so(
    secured: SecuredKafka, operation: str, verb: str
) -> None:
    names = QueueNames(f"t-{uuid.uuid4().hex[:8]}")
    user = somebody(secured, "admin", names)
    admin, topology = TopicAdmin(user.connection, timeout_s=30), Topology.of(names, partitions=1)
    right = of("admin", names, operation, "dlq")
    does: dict[str, Callable[[], object]] = {
        "create": lambda: admin.create(topology),
        "delete": lambda: admin.delete(names),
    }
    if verb == "delete":
        admin.create(topology)
    # Delete shows the topic too, which Describe alone still does.
    secured.give(user, [Right("topic", right.name, "Describe")])
    secured.take(user, [right])
    with pytest.raises(RightMissing) as caught:
        does[verb]()
    assert names_it(str(caught.value), user, right)
    secured.give(user, [right])
    does[verb]()
    secured.give(user, rights_of("admin", topology))
    admin.delete(names)


def test_replies_that_may_not_be_read_are_told_and_results_come_all_the_same(crew: Crew) -> None:
    user = somebody(crew.secured, "producer", crew.queue.names)
    right = of("producer", crew.queue.names, "Read", "replies")
    crew.secured.take(user, [right])
    crew.said.lines.clear()
    with Fairlane(crew.queue.names.queue, settings=user.settings) as app:
        try:
            said = str(app.enqueue("ok", reply=True).result(timeout_s=20))
        except RightMissing as error:
            said = str(error)
    assert any(names_it(line, user, right) for line in [said, *crew.said.lines]), said


def test_a_status_that_may_not_be_read_is_told_to_who_waits_for_it(crew: Crew) -> None:
    user = somebody(crew.secured, "producer", crew.queue.names)
    right = of("producer", crew.queue.names, "Read", "status")
    task = crew.does("ok")
    crew.queue.wait_event(task, "completed")
    with Fairlane(crew.queue.names.queue, settings=user.settings) as app:
        assert app.handle(task.id).result(timeout_s=20) == "done"
    crew.secured.take(user, [right])
    with Fairlane(crew.queue.names.queue, settings=user.settings) as app, pytest.raises(RightMissing) as caught:
        app.handle(task.id).result(timeout_s=20)
    assert names_it(str(caught.value), user, right)
    missing = caught.value
    assert (missing.operation, missing.resource, missing.name) == ("Read", "topic", right.name)
    assert missing.principal == user.principal


def test_who_may_write_nothing_is_told_so_at_once(crew: Crew) -> None:
    """Not even the first question of an idempotent producer is answered then, and the answer names no topic."""
    user = somebody(crew.secured, "monitor", crew.queue.names)
    said = fairlane(user, crew.queue.names.queue, *OK, "--timeout", "10s")
    assert names_it(said.stderr, user, Right("topic", f"{crew.queue.names.queue}.p3", "Write")), said


def test_rights_are_given_by_the_command_itself_and_only_once(secured: SecuredKafka, shop: WorkingQueue) -> None:
    user = secured.user("worker")
    url = f"kafka://{secured.admin.bootstrap}/{shop.names.queue}"
    command = [sys.executable, "-m", "fairlane", "topics", "acls", "--queue-url", url, "--worker", user.name, "--apply"]
    count = len(rights_of("worker", declared(shop.names)))
    for given in (count, 0):
        done = subprocess.run([*command, "--yes"], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == f"Gave {given} rights; {count - given} were given already.\n"
    # It may have more partitions by now; nothing of it is hidden.
    assert {each.kind for each in check_queue(user.connection, declared(shop.names))} <= {"partitions"}


def test_who_may_not_give_rights_is_told_which_right_that_takes(secured: SecuredKafka, shop: WorkingQueue) -> None:
    user = somebody(secured, "admin", shop.names)
    done = fairlane(user, shop.names.queue, "topics", "acls", "--worker", "ann", "--apply", "--yes")
    assert f"{user.principal} has no right to Alter cluster kafka-cluster" in done.stderr
    assert f"--allow-principal {user.principal} --operation Alter --cluster " in done.stderr


STAND_INS = {
    "operator": {f"Write topic p{level}" for level in (1, 2, 4, 5)},
    "worker": {f"Delete topic retry-{tier}" for tier in ("5s", "1m", "10m", "2h", "1d")},
}
"""Topics for which another of their kind stands."""


@pytest.mark.parametrize("role", ROLES)
def test_no_right_of_a_role_was_not_taken_away(role: Role) -> None:
    if "Write topic retry-1d" in without_a_row("producer"):
        pytest.skip("test_every_right.py did not run before this")
    assert without_a_row(role) == STAND_INS.get(role, set())
