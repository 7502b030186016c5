"""A worker on a broker that allows nothing else, whose rights a test takes away; and the table of what said so.

Invariant: a row of the table is a right that was taken from somebody who had all of its role, and the words that named
it, with its topic and the command that gives it. `out/acls.md` has all rows of the session.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from secured_kafka import SecuredKafka, User
from working_queue import WorkingQueue

from fairlane import RetryPolicy, context
from fairlane.consumer.pool import WorkerPool
from fairlane.topics.names import QueueNames
from fairlane.topics.rights import Right, Role, rights_of
from fairlane.topics.task import Task
from fairlane.topics.topology import Topology

OUT = Path(__file__).resolve().parent.parent / "out/acls.md"
ONCE = RetryPolicy(max_attempts=1)
SOON = RetryPolicy(max_attempts=2, base_s=1.0, jitter=0)
_rows: dict[tuple[str, str], str] = {}


def declared(names: QueueNames) -> Topology:
    return Topology.of(names, partitions=1)


def named(names: QueueNames, which: str) -> str:
    """`p3` is the queue's, `group` its group, `replay` the transactional id of replays."""
    return {"group": names.group, "starts": f"{names.group}-", "replay": f"{names.group}-replay"}.get(
        which, f"{names.queue}.{which}"
    )


def of(role: Role, names: QueueNames, operation: str, which: str) -> Right:
    """One of the rights of a role."""
    name = named(names, which)
    (found,) = [r for r in rights_of(role, declared(names)) if (r.operation, r.name) == (operation, name)]
    return found


def somebody(secured: SecuredKafka, role: Role, names: QueueNames) -> User:
    user = secured.user(role)
    secured.give(user, rights_of(role, declared(names)))
    return user


def names_it(text: str, user: User, right: Right) -> bool:
    """Whether a text says who lacks what, and what gives it."""
    kind, name = right.resource, right.name
    lacks = re.search(rf"{user.principal} has no right to {right.operation} {kind} {name}\S*\. ", text)
    gives = f"kafka-acls.sh --add --allow-principal {user.principal} --operation {right.operation} --{kind} {name}"
    if lacks is None or gives not in text:
        return False
    add_row(user, right, text[max(text.rfind("\n", 0, lacks.start()) + 1, 0) :].partition("\n")[0])
    return True


def add_row(user: User, right: Right, text: str) -> None:
    """It was taken from this user, and this said so."""
    said = re.sub(r"\bt-[0-9a-f]{8}\b", "shop", text.replace(user.principal, "User:ann")).replace("|", "\\|")
    role = user.name.rpartition("-")[0]
    _rows.setdefault((role, _named(right)), said.strip())


def without_a_row(role: Role) -> set[str]:
    """The rights of a role that no test of this session has taken away."""
    names = QueueNames("shop")
    mine = list(rights_of(role, declared(names)))
    if role == "operator":
        mine = [each for each in mine if each not in rights_of("monitor", declared(names))]
    return {_named(each) for each in mine} - {right for of, right in _rows if of == role}


def _named(right: Right) -> str:
    which = re.sub(r"\bt-[0-9a-f]{8}\b", "shop", right.name.removeprefix(f"{right.name.partition('.')[0]}."))
    return f"{right.operation} {right.resource} {which}" + ("*" if right.prefixed else "")


def write_table() -> None:
    """Write what was seen so far to `out/acls.md`."""
    OUT.parent.mkdir(exist_ok=True)
    rows = [f"| {role} | {right} | {said} |" for (role, right), said in sorted(_rows.items())]
    OUT.write_text("\n".join(["| taken from | right | what said so |", "|---|---|---|", *rows]) + "\n")


def fairlane(user: User, queue: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fairlane", *arguments]
    environ = {**os.environ, **user.environ(queue)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


class Said(logging.Handler):
    """What fairlane logs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def listening() -> Iterator[Said]:
    """What fairlane logs meanwhile."""
    said, logger = Said(), logging.getLogger("fairlane")
    logger.addHandler(said)
    try:
        yield said
    finally:
        logger.removeHandler(said)


async def ok() -> str:
    return "done"


async def flaky() -> str:
    if context().attempt == 1:
        raise ValueError("once")
    return "done"


async def dead() -> None:
    raise ValueError("always")


async def sends(to: str = "p1") -> str:
    queue = context().task.lane.rpartition(".")[0]
    header = ("fairlane-lane", f"{queue}.p1".encode())
    context().emit(f"{queue}.{to}", b'{"type": "ok"}', headers=[header])
    return "sent"


async def elsewhere() -> str:
    context().emit("somebody-elses", b"{}")
    return "sent"


@dataclass
class Crew:
    """A worker in this process, who it is to the broker, and what it logs."""

    secured: SecuredKafka
    queue: WorkingQueue
    user: User
    said: Said

    def told(self, right: Right) -> bool:
        return any(names_it(line, self.user, right) for line in self.said.lines)

    def does(self, task_type: str, payload: bytes = b"{}", **fields: Any) -> Task:
        task = self.queue.task(task_type, payload, **fields)
        self.queue.send(task)
        return task


@contextmanager
def rights_crew(secured: SecuredKafka, queue: WorkingQueue) -> Iterator[Crew]:
    """A worker with the least rights of one; what is taken from it is given back by who took it."""
    user = somebody(secured, "worker", queue.names)
    pool = WorkerPool(replace(queue.config(keep_s=0.0, trim_period_s=0.3), connection=user.connection))
    pool.register_handler("ok", ok)
    pool.register_handler("flaky", flaky, retry=SOON)
    pool.register_handler("dead", dead, retry=ONCE)
    pool.register_handler("sends", sends)
    pool.register_handler("elsewhere", elsewhere)
    with listening() as said:
        try:
            with pool:
                yield Crew(secured, queue, user, said)
        finally:
            write_table()
