"""The least rights on Kafka with which each role does its work on a queue, declared once.

Invariant: pure data from the queue's topology. What is printed, given, documented and named in an error is made from
this, and each right is needed: a test takes away one after the other. A right that another one implies (Read, Write,
Delete and Alter imply Describe; AlterConfigs implies DescribeConfigs) is not listed.

Source: Kafka's documentation, "Authorization and ACLs"; KIP-11, KIP-290 (prefixes), KIP-679 (idempotent producers).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

from fairlane.topics.errors import UsageError
from fairlane.topics.names import QueueNames
from fairlane.topics.topology import Topology

Operation = Literal["Read", "Write", "Create", "Delete", "Describe", "DescribeConfigs", "Alter", "AlterConfigs"]
ResourceKind = Literal["topic", "group", "transactional-id", "cluster"]
Role = Literal["producer", "worker", "monitor", "operator", "admin"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
CLUSTER: Final = "kafka-cluster"

DOES: Final[Mapping[Role, str]] = MappingProxyType(
    {
        "producer": "enqueues, waits for results",
        "worker": "runs tasks, retries, buries, trims",
        "monitor": "looks: monitor, workers, status, dlq list and show, topics check and describe",
        "operator": "what a monitor may, deals with dead letters, replays, and asks of workers: cancel, pause, kill, "
        "schedules",
        "admin": "makes, checks, mends, grows and deletes the queue's topics",
    }
)
"""What each role is for."""


@dataclass(frozen=True, order=True)
class Right:
    """One operation on one resource, or on all whose names begin alike.

    Attributes:
        resource: what kind of thing it is.
        name: of the thing, or what the names begin with.
        operation: what may be done, in Kafka's word.
        prefixed: whether `name` is a beginning.
        why: what it is needed for.
    """

    resource: ResourceKind
    name: str
    operation: Operation
    prefixed: bool = False
    why: str = ""

    def __str__(self) -> str:
        which = f" that begins with {self.name}" if self.prefixed else f" {self.name}"
        return f"{self.operation} {self.resource}{which}"


def rights_of(role: str, topology: Topology) -> tuple[Right, ...]:
    """What a role needs on a queue, topics in the order of the declaration.

    Args:
        role: one of `ROLES`.
        topology: of the queue, with its foreign lanes.

    Raises:
        UsageError: there is no such role.
    """
    if role not in _OF:
        raise UsageError(f"there is no role {role!r}", f"There are: {', '.join(ROLES)}")
    found: dict[tuple[str, str, str], Right] = {}
    for right in _OF[role](_Topics(topology)):
        found.setdefault((right.resource, right.name, right.operation), right)
    return tuple(found.values())


def commands(principal: str, rights: Iterable[Right], bootstrap: str) -> list[str]:
    """The `kafka-acls.sh` commands that give them, one for each set of operations.

    Args:
        principal: as the broker knows it, such as `User:shop-worker`.
        rights: what to give.
        bootstrap: of the brokers.
    """
    operations: dict[tuple[ResourceKind, str, bool], list[str]] = {}
    for right in rights:
        operations.setdefault((right.resource, right.name, right.prefixed), []).append(right.operation)
    names: dict[tuple[ResourceKind, tuple[str, ...], bool], list[str]] = {}
    for (resource, name, prefixed), allowed in operations.items():
        names.setdefault((resource, tuple(allowed), prefixed), []).append(name)
    tool = f"kafka-acls.sh --bootstrap-server {bootstrap} --add --allow-principal {shlex.quote(principal)}"
    return [
        " ".join(
            [
                tool,
                *(f"--operation {operation}" for operation in allowed),
                *([f"--{resource}"] if resource == "cluster" else [f"--{resource} {name}" for name in named]),
                *(["--resource-pattern-type prefixed"] if prefixed else []),
            ]
        )
        for (resource, allowed, prefixed), named in names.items()
    ]


class _Topics:
    """The names that roles speak of, and rights on them."""

    def __init__(self, topology: Topology) -> None:
        self.names: QueueNames = topology.names
        roles: dict[str, list[str]] = {}
        for spec in topology.specs:
            roles.setdefault(spec.role, []).append(spec.name)
        self.lanes = roles.get("lane", [])
        self.foreign = roles.get("foreign lane", [])
        self.tiers = roles.get("tier", [])
        self.owned = [spec.name for spec in topology.owned]

    @staticmethod
    def on(operation: Operation, topics: Iterable[str], why: str) -> list[Right]:
        return [Right("topic", name, operation, why=why) for name in topics]

    def group(self, operation: Operation, why: str) -> Right:
        return Right("group", self.names.group, operation, why=why)


def _producer(its: _Topics) -> list[Right]:
    return [
        *its.on("Write", its.lanes, "tasks"),
        *its.on("Write", its.foreign, "tasks"),
        *its.on("Write", its.tiers, "tasks with a delay"),
        *its.on("Read", [its.names.replies, its.names.status], "results"),
        its.group("Describe", "librdkafka asks where the group is before it reads anything"),
    ]


def _worker(its: _Topics) -> list[Right]:
    names = its.names
    return [
        *its.on("Read", [*its.lanes, *its.foreign, *its.tiers], "tasks"),
        *its.on("Read", [names.workers], "heartbeats of the others"),
        *its.on("Write", its.lanes, "what handlers enqueue"),
        *its.on("Write", its.tiers, "retries"),
        *its.on("Write", [names.dlq], "dead letters"),
        *its.on("Write", [names.status, names.replies], "outcomes and results"),
        *its.on("Write", [names.workers], "its heartbeat"),
        *its.on("Delete", [*its.lanes, *its.tiers], "trimming: DeleteRecords has no smaller right"),
        *its.on("DescribeConfigs", its.owned, "whether the queue would lose data"),
        *its.on("Read", [names.control], "what operators ask"),
        *its.on("Write", [names.control], "that a cancel has served"),
        *its.on("Describe", [names.audit], "whether the queue is whole"),
        *its.on("Read", [names.events, names.state], "schedules that it owns"),
        *its.on("Write", [names.events], "schedules of its app"),
        *its.on("Write", [names.state], "how far schedules are"),
        *its.on("Delete", [names.events], "trimming: DeleteRecords has no smaller right"),
        its.group("Read", "to join the group and commit"),
        Right(
            "transactional-id", f"{names.group}-", "Write", True, "settling, one id a start; ending that of the dead"
        ),
    ]


def _monitor(its: _Topics) -> list[Right]:
    names = its.names
    read = [*its.lanes, *its.foreign, *its.tiers, names.dlq, names.status, names.audit, names.control, names.workers]
    return [
        *its.on("Read", read, "what waits, what became of it, who works"),
        *its.on("Read", [names.state], "schedules"),
        *its.on("Describe", [names.replies, names.events], "whether the queue is whole"),
        *its.on("DescribeConfigs", its.owned, "topics check"),
        its.group("Describe", "how far the workers are"),
    ]


def _operator(its: _Topics) -> list[Right]:
    replay = f"{its.names.group}-replay"
    # To write events implies to see that they are there.
    implied = its.names.events, "Describe"
    return [
        *(right for right in _monitor(its) if (right.name, right.operation) != implied),
        *its.on("Write", [*its.lanes, *its.foreign], "letters that are put back, tasks that run again"),
        *its.on("Write", [its.names.control], "cancel, pause, resume, weight, kill, demote"),
        *its.on("Write", [its.names.events], "add, pause, resume and remove schedules"),
        *its.on("Write", [its.names.audit], "who did what"),
        *its.on("Delete", [its.names.dlq], "dlq purge, which only marks letters without it"),
        Right("transactional-id", replay, "Write", True, "both in one transaction, of an id for each replay of tasks"),
    ]


def _admin(its: _Topics) -> list[Right]:
    return [
        *its.on("Create", its.owned, "topics create"),
        *its.on("Delete", its.owned, "topics delete"),
        *its.on("Alter", [*its.lanes, *its.tiers], "topics grow"),
        *its.on("AlterConfigs", its.owned, "topics mend"),
        *its.on("Describe", its.foreign, "whether they exist"),
    ]


_OF: Final[Mapping[str, Callable[[_Topics], list[Right]]]] = {
    "producer": _producer,
    "worker": _worker,
    "monitor": _monitor,
    "operator": _operator,
    "admin": _admin,
}
