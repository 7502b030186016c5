"""Every error that fairlane raises on purpose, in one tree.

Invariant: an error is a frozen set of fields; its text is made from them and says what to do. `exit_code` is what the
CLI ends with. Nobody has to read a message to find out what happened.

    FairlaneError
    ├── UsageError                  the call or the configuration is wrong
    │   └── PayloadError            the arguments do not fit the handler's signature
    ├── KafkaUnreachable            no broker answered in time
    ├── KafkaRefused                a broker answered with an error that asking again does not mend
    │   └── RightMissing            an ACL is missing; it says which
    ├── QueueError                  also MapTooNew (see fairlane.topics.offset_map)
    │   ├── QueueUnknown            the queue's topics do not exist
    │   ├── QueueBroken             they exist and would lose data
    │   └── KafkaTooOld             the cluster cannot carry a queue
    ├── EnqueueError
    │   ├── TaskTooLarge
    │   ├── BufferFull
    │   ├── EnqueueUncertain        Kafka may or may not have it: same id, again
    │   ├── EnqueueRefused          Kafka said no, for good
    │   ├── ProducerClosed
    │   ├── SomeNotEnqueued         of many, these arrived and those did not
    │   └── TasksNotSent            close() could not deliver these
    ├── ResultError
    │   ├── TaskUnknown
    │   ├── TaskFailed
    │   └── ResultTimeout
    ├── InvalidPayload              the payload of a task does not fit its handler
    ├── InvalidResult               what a handler returned is no JSON, or not what was expected
    ├── ReadIncomplete, ReplayFailed, StoreBroken  of the monitor (see fairlane.monitor.errors)
    ├── MalformedRecord             a record that is no task; it goes to the DLQ with this reason
    ├── InvariantBroken             fairlane itself is wrong: a bug to report
    └── EmbeddedKafkaError          the local Kafka of `fairlane kafka` (see fairlane.kafka)
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any, ClassVar


def _rebuild(cls: type[FairlaneError], fields: dict[str, Any]) -> FairlaneError:
    error = cls.__new__(cls)
    error.__dict__.update(fields)
    return error


class FairlaneError(Exception):
    """The root: catch this to catch everything that fairlane raises on purpose."""

    exit_code: ClassVar[int] = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Fields, not positional arguments, are what crosses a process boundary."""
        return (_rebuild, (type(self), dict(self.__dict__)))


@dataclass(eq=False)
class UsageError(FairlaneError):
    """The call or the configuration is wrong.

    Attributes:
        problem: what is wrong, one sentence.
        hint: what to do about it.
    """

    exit_code: ClassVar[int] = 2
    problem: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.problem}. {self.hint}" if self.hint else self.problem


@dataclass(eq=False)
class PayloadError(UsageError):
    """The arguments do not fit the handler's signature; `task_type` names the handler."""

    task_type: str = ""

    def __str__(self) -> str:
        return f"the payload does not fit task {self.task_type!r}: {self.problem}"


@dataclass(eq=False)
class KafkaUnreachable(FairlaneError):
    """No broker answered within `timeout_s` seconds at `bootstrap`; 0 if it was clear at once."""

    exit_code: ClassVar[int] = 3
    bootstrap: str
    timeout_s: float
    detail: str = ""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        within = f" within {self.timeout_s:g} s" if self.timeout_s else ""
        return (
            f"Kafka did not answer at {self.bootstrap}{within}{detail}. Is it running? "
            "`fairlane kafka start` runs one here; FAIRLANE_QUEUE_URL=kafka://host:port/queue names another"
        )


@dataclass(eq=False)
class KafkaRefused(FairlaneError):
    """Kafka answered with an error that asking again does not mend.

    Attributes:
        code: Kafka's name of the error.
        detail: Kafka's words.
        action: what it was asked to do, as in "Kafka refused to …".
        hint: what to do about it.
    """

    code: str
    detail: str = ""
    action: str = ""
    hint: str = ""

    def __str__(self) -> str:
        action = f" to {self.action}" if self.action else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"Kafka refused{action}: {self.code} ({self.detail}).{hint}"


@dataclass(eq=False)
class RightMissing(KafkaRefused):
    """The `principal` ("" where only the broker knows) lacks the right to an `operation` on the `resource` `name`."""

    operation: str = ""
    resource: str = ""
    name: str = ""
    principal: str = ""

    @property
    def advice(self) -> str:
        """Who lacks which right, and what gives it."""
        which = f"--operation {self.operation} --{self.resource} {self.name}".removesuffix("kafka-cluster")
        command = f"kafka-acls.sh --add --allow-principal {shlex.quote(self.principal or 'User:NAME')} {which}"
        return (
            f"{self.principal or 'this client'} has no right to {self.operation} {self.resource} {self.name}. "
            f"`{command}` gives it, and `fairlane topics acls` shows all that each role needs"
        )

    def __str__(self) -> str:
        action = f" to {self.action}" if self.action else ""
        return f"Kafka refused{action}: {self.code}: {self.advice}"


class QueueError(FairlaneError):
    """The queue as a whole cannot be used."""

    exit_code: ClassVar[int] = 4


@dataclass(eq=False)
class QueueUnknown(QueueError):
    """The topics of `queue` (the first missing one is `topic`) do not exist at `bootstrap`."""

    queue: str
    topic: str
    bootstrap: str = ""

    def __str__(self) -> str:
        where = f" at {self.bootstrap}" if self.bootstrap else ""
        return f"topic {self.topic} does not exist{where}. Make it with `fairlane topics create --queue {self.queue}`"


@dataclass(eq=False)
class QueueBroken(QueueError):
    """The topics of `queue` would lose data or cannot work; `problems` says one by one how."""

    queue: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        more = len(self.problems) - 3
        lines = "; ".join(self.problems[:3]) + (f"; and {more} more" if more > 0 else "")
        return f"queue {self.queue!r} is broken: {lines}. `fairlane topics check --queue {self.queue}` shows all of it"


@dataclass(eq=False)
class KafkaTooOld(QueueError):
    """The cluster lacks what fairlane stands on; `missing` names it."""

    bootstrap: str
    missing: str

    def __str__(self) -> str:
        return (
            f"the Kafka cluster at {self.bootstrap} is too old: {self.missing}. "
            "fairlane needs Apache Kafka 4.0 or newer with the consumer group protocol of KIP-848 (group.version=1)"
        )


class EnqueueError(FairlaneError):
    """A task did not reach Kafka, or may not have."""


@dataclass(eq=False)
class TaskTooLarge(EnqueueError):
    """The record of `size_bytes` is over the limit of `limit_bytes` (0 where Kafka did not say it)."""

    task_id: str
    size_bytes: int
    limit_bytes: int = 0

    def __str__(self) -> str:
        limit = f", the limit is {self.limit_bytes}" if self.limit_bytes else " than Kafka takes"
        return (
            f"task {self.task_id} is too large: {self.size_bytes} bytes{limit}. "
            "Store the data elsewhere and enqueue a reference to it, or raise max.message.bytes of the topic"
        )


@dataclass(eq=False)
class BufferFull(EnqueueError):
    """The local buffer stayed full for `waited_s` seconds: tasks are made faster than Kafka takes them."""

    task_id: str
    waited_s: float

    def __str__(self) -> str:
        return (
            f"task {self.task_id} was not sent: the local buffer stayed full for {self.waited_s:g} s. "
            "Kafka takes tasks more slowly than they are made; enqueue fewer at once, or raise "
            "queue.buffering.max.messages"
        )


@dataclass(eq=False)
class EnqueueUncertain(EnqueueError):
    """Kafka did not acknowledge in time: the task may or may not be there. Enqueue it again with the same id."""

    task_id: str
    waited_s: float
    detail: str = ""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return (
            f"Kafka did not acknowledge task {self.task_id} within {self.waited_s:g} s{detail}: it may or may not be "
            f"enqueued. Enqueue it again with id={self.task_id!r}"
        )


@dataclass(eq=False)
class EnqueueRefused(EnqueueError):
    """Kafka refused the task for good; `code` is Kafka's name of the error."""

    task_id: str
    topic: str
    code: str
    detail: str = ""

    def __str__(self) -> str:
        return f"Kafka refused task {self.task_id} on topic {self.topic}: {self.code}: {self.detail}".removesuffix(": ")


@dataclass(eq=False)
class ProducerClosed(EnqueueError):
    """The producer was closed before this call, or while it waited; make a new Fairlane."""

    task_id: str = ""

    def __str__(self) -> str:
        which = f"task {self.task_id} was not sent: " if self.task_id else ""
        return f"{which}the producer is closed. Enqueue, and wait for results, before close()"


@dataclass(eq=False)
class SomeNotEnqueued(EnqueueError):
    """Of many tasks sent together, some did not arrive.

    Attributes:
        arrived: ids of those that are in Kafka, in the order they were given.
        errors: the others: id and why, in order. One that is an EnqueueUncertain may be there all the same.
    """

    arrived: tuple[str, ...]
    errors: tuple[tuple[str, FairlaneError], ...]

    def __str__(self) -> str:
        shown = "; ".join(f"{task_id}: {error}" for task_id, error in self.errors[:3])
        more = "; …" if len(self.errors) > 3 else ""
        total = len(self.arrived) + len(self.errors)
        return (
            f"{len(self.errors)} of {total} tasks did not arrive: {shown}{more}. "
            "`errors` names each; enqueue those again with the same ids"
        )


@dataclass(eq=False)
class TasksNotSent(EnqueueError):
    """close() ended with these tasks undelivered; `task_ids` are theirs."""

    task_ids: tuple[str, ...]
    waited_s: float

    def __str__(self) -> str:
        shown = ", ".join(self.task_ids[:5]) + (", …" if len(self.task_ids) > 5 else "")
        return (
            f"{len(self.task_ids)} tasks did not reach Kafka within {self.waited_s:g} s of close: {shown}. "
            "Enqueue them again with the same ids"
        )


class ResultError(FairlaneError):
    """A result cannot be had."""


@dataclass(eq=False)
class TaskUnknown(ResultError):
    """Nothing in the queue speaks of `task_id`."""

    exit_code: ClassVar[int] = 5
    task_id: str
    queue: str
    kept_s: float = 0

    def __str__(self) -> str:
        kept = f" Statuses are kept for {self.kept_s / 86400:g} days." if self.kept_s else ""
        return f"task {self.task_id} is unknown to queue {self.queue!r}.{kept} Is it the right queue?"


@dataclass(eq=False)
class TaskFailed(ResultError):
    """The task ended without a result: `state` failed, cancelled or expired, for `reason`."""

    task_id: str
    state: str
    reason: str
    error_type: str = ""
    error_message: str = ""
    traceback: str = ""

    def __str__(self) -> str:
        error = f": {self.error_type}: {self.error_message}" if self.error_type else ""
        return f"task {self.task_id} {self.state} ({self.reason}){error}"


@dataclass(eq=False)
class ResultTimeout(ResultError, TimeoutError):
    """The task had no terminal event within `timeout_s`; it goes on all the same."""

    task_id: str
    timeout_s: float

    def __str__(self) -> str:
        return f"task {self.task_id} has no result after {self.timeout_s:g} s; it goes on. Ask again, or see its status"


@dataclass(eq=False)
class MalformedRecord(FairlaneError):
    """A record that is no valid task; `problem` says why. It goes to the DLQ and never stops a partition."""

    problem: str

    def __str__(self) -> str:
        return self.problem


@dataclass(eq=False)
class InvalidPayload(FairlaneError):
    """The payload of a task does not fit the handler of `task_type`; `errors` says where and why, one line each."""

    task_type: str
    errors: tuple[str, ...]

    def __str__(self) -> str:
        return f"the payload does not fit task {self.task_type!r}: {'; '.join(self.errors)}"


@dataclass(eq=False)
class InvalidResult(FairlaneError):
    """What the handler of `task_type` returned, a `given`, is no JSON, or its JSON is not what the caller expects."""

    task_type: str
    given: str
    problem: str

    def __str__(self) -> str:
        return (
            f"the result of task {self.task_type!r}, {self.given}, does not fit: {self.problem}. "
            "Return JSON types, dataclasses or models, or None, as annotated"
        )


@dataclass(eq=False)
class InvariantBroken(FairlaneError):
    """The core was told something that cannot be; going on would risk tasks. `problem` says what."""

    problem: str

    def __str__(self) -> str:
        return f"{self.problem}. This is a bug in fairlane: please report it with the log before it"


class EmbeddedKafkaError(FairlaneError):
    """The local Kafka could not do what was asked; fairlane.kafka has the kinds."""
