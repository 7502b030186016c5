"""The schedules of a queue, for operators: what there is, and what is asked of their owners.

Invariant: what there is, is what owners have written, read as a committed reader does. What is asked is acknowledged
and audited, and whether an owner has taken it up is looked at, and said. It can be asked while no worker runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from fairlane.monitor.acknowledged import Place, write
from fairlane.monitor.control_log import ControlLog
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.scan import BEGINNING, Scanner
from fairlane.topics.clock import now_ms
from fairlane.topics.connection import Connection
from fairlane.topics.control_errors import NoSchedules
from fairlane.topics.errors import UsageError
from fairlane.topics.names import QueueNames
from fairlane.topics.schedules import (
    KIND,
    Action,
    Schedule,
    ScheduleEvent,
    ScheduleState,
    decode_state,
    encode,
    key_of,
)

_LOOK_S: Final = 0.1


class Asked(NamedTuple):
    """What became of something that was asked: whether an owner has taken it up, and the state then."""

    taken_up: bool
    state: ScheduleState | None


class ScheduleKeeper:
    """Keeps the schedules of one queue.

    Args:
        connection: to the cluster.
        names: of the queue.
        who: for the record and the audit.
        via: where it is asked for: `cli`, `python`, `api`.
        timeout_s: how long one answer of Kafka's may take, and how long an owner is waited for, seconds.
    """

    def __init__(
        self, connection: Connection, names: QueueNames, *, who: str, via: str, timeout_s: float = 10.0
    ) -> None:
        self._connection = connection
        self._names = names
        self._log = ControlLog(connection, names, who=who, via=via, timeout_s=timeout_s)
        self._timeout_s = timeout_s

    def all(self) -> list[ScheduleState]:
        """What there is, by name.

        Raises:
            NoSchedules: the queue has no topics for them.
            ReadIncomplete: there was more to read than the time allowed.
            RightMissing, KafkaUnreachable: it cannot be read.
        """
        partitions = self._topics()[self._names.state]
        newest: dict[bytes, bytes | None] = {}
        with Scanner(self._connection, timeout_s=self._timeout_s, group=self._names.group) as scanner:
            for message in scanner.read({(self._names.state, each): BEGINNING for each in range(partitions)}):
                newest[message.key() or b""] = message.value()
        found = []
        for key, value in newest.items():
            kind, _, name = key.decode("utf-8", "replace").partition(":")
            state = decode_state(name, value) if kind == KIND and value is not None else None
            if state is not None and not state.removed_ms:
                found.append(state)
        return sorted(found, key=lambda each: each.schedule.name)

    def get(self, name: str) -> ScheduleState:
        """The schedule of this name.

        Raises:
            UsageError: there is none.
            NoSchedules, ReadIncomplete, RightMissing, KafkaUnreachable: as for `all`.
        """
        found = {each.schedule.name: each for each in self.all()}
        if name not in found:
            there = ", ".join(found) or "no schedule"
            raise UsageError(f"queue {self._names.queue!r} has no schedule {name!r:.250}", f"There is: {there:.500}")
        return found[name]

    def add(self, schedule: Schedule) -> Asked:
        """Have a schedule, or change one that was added by hand.

        Raises:
            UsageError: the app defines one of this name.
            NotControlled: Kafka refused.
            NoSchedules, ReadIncomplete, RightMissing, KafkaUnreachable: as for `all`.
        """
        self._refuse_of_the_app([each for each in self.all() if each.schedule.name == schedule.name])
        return self._ask("define", schedule.name, schedule, {"when": schedule.when, "type": schedule.type})

    def pause(self, name: str) -> Asked:
        """Let it make no tasks until it is resumed.

        Raises:
            UsageError: there is none of this name.
            NotControlled, NoSchedules, ReadIncomplete, RightMissing, KafkaUnreachable: as for `add`.
        """
        self.get(name)
        return self._ask("pause", name)

    def resume(self, name: str) -> Asked:
        """Let it go on, from now on; raises as `pause` does."""
        self.get(name)
        return self._ask("resume", name)

    def remove(self, name: str) -> Asked:
        """Forget a schedule that was added by hand; raises as `add` and `pause` do."""
        self._refuse_of_the_app([self.get(name)])
        return self._ask("remove", name)

    def _refuse_of_the_app(self, found: list[ScheduleState]) -> None:
        for each in found:
            if each.schedule.by == "app":
                raise UsageError(
                    f"schedule {each.schedule.name!r} is defined by the app, which would define it again",
                    "Change it in the code, or pause it",
                )

    def _ask(
        self, action: Action, name: str, schedule: Schedule | None = None, details: Mapping[str, str] | None = None
    ) -> Asked:
        event = ScheduleEvent(action=action, name=name, at_ms=now_ms(), who=self._log.who, schedule=schedule)
        (place,) = write(self._connection, self._timeout_s, self._names.events, [(key_of(name), encode(event))])
        self._log.audit(f"schedule {'add' if action == 'define' else action}", [name], "", **(details or {}))
        if not self._await_owner(place):
            return Asked(False, None)
        offsets = Offsets(self._connection, timeout_s=self._timeout_s)
        offsets.await_visible(offsets.written([(self._names.state, place.partition)]), self._timeout_s)
        return Asked(True, next((each for each in self.all() if each.schedule.name == name), None))

    def _await_owner(self, place: Place) -> bool:
        """Whether an owner has fed the event by the end of the time."""
        partition = self._names.events, place.partition
        ends_at = time.monotonic() + self._timeout_s
        with Scanner(self._connection, timeout_s=2 * self._timeout_s, group=self._names.group) as scanner:
            while time.monotonic() < ends_at:
                found = scanner.commits([partition]).get(partition)
                if found is not None and found.offset > place.offset:
                    return True
                time.sleep(_LOOK_S)
        return False

    def _topics(self) -> Mapping[str, int]:
        offsets = Offsets(self._connection, timeout_s=self._timeout_s)
        topics = offsets.partitions()
        # That there is the other one, whoever may write to it is told by Kafka.
        if self._names.state not in topics:
            offsets.require({self._names.state})
            raise NoSchedules(self._names.queue, self._names.state)
        return topics
