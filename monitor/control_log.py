"""Writes what operators ask of the workers, and the audit of it.

Invariant: whoever returns from here knows that Kafka has it: the record of `<queue>.control` is acknowledged, then that
of the audit. Nothing is written inside a transaction, and to ask twice is to ask once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairlane.monitor.acknowledged import write
from fairlane.monitor.offsets import Offsets
from fairlane.topics.audit import AuditRecord, encode_audit
from fairlane.topics.clock import now_ms
from fairlane.topics.connection import Connection
from fairlane.topics.control import REASON_MAX, WHO_MAX, ControlRecord, cut, encode_control
from fairlane.topics.control_errors import NoControl
from fairlane.topics.names import QueueNames


class ControlLog:
    """The control topic and the audit of one queue, to be written.

    Args:
        connection: to the cluster.
        names: of the queue.
        who: for the record and the audit.
        via: where it is asked for: `cli`, `python`, `api`.
        timeout_s: how long one answer of Kafka's may take, seconds.
    """

    def __init__(self, connection: Connection, names: QueueNames, *, who: str, via: str, timeout_s: float) -> None:
        self._connection = connection
        self._names = names
        self.who = cut(who, WHO_MAX)
        self.via = cut(via, WHO_MAX)
        self._timeout_s = timeout_s

    def topics(self) -> Mapping[str, int]:
        """All topics that there are, with the number of their partitions.

        Raises:
            NoControl: the queue has no control topic.
            KafkaUnreachable: no broker answered.
        """
        offsets = Offsets(self._connection, timeout_s=self._timeout_s)
        topics = offsets.partitions()
        if self._names.control not in topics:
            offsets.require({self._names.control})
            raise NoControl(self._names.queue, self._names.control)
        return topics

    def record(self, kind: str, scope: str, reason: str, **fields: Any) -> ControlRecord:
        """A record of ours, as of now; `fields` are those of its kind."""
        return ControlRecord(
            kind=kind,
            scope=scope,
            who=self.who,
            via=self.via,
            at_ms=now_ms(),
            reason=cut(reason, REASON_MAX),
            **fields,
        )

    def ask(self, records: Iterable[ControlRecord]) -> None:
        """Ask for these; returns when all are acknowledged.

        Raises:
            NotControlled, RightMissing: Kafka refused.
            KafkaUnreachable: no broker answered.
        """
        self._write(self._names.control, [(each.key, encode_control(each)) for each in records], done=0)

    def take_back(self, records: Iterable[ControlRecord]) -> None:
        """Ask for these no longer; as `ask`."""
        self._write(self._names.control, [(each.key, None) for each in records], done=0)

    def audit(self, action: str, targets: Iterable[str], reason: str, **details: Any) -> None:
        """Write down that it was done; of the details those that say something."""
        said = {"reason": cut(reason, REASON_MAX), **details}
        at_ms = now_ms()
        records = [
            AuditRecord(
                at_ms=at_ms,
                who=self.who,
                via=self.via,
                action=action,
                target=each,
                details={name: value for name, value in said.items() if value},
            )
            for each in targets
        ]
        self._write(self._names.audit, [(each.key, encode_audit(each)) for each in records], done=len(records))

    def _write(self, topic: str, records: Sequence[tuple[bytes, bytes | None]], *, done: int) -> None:
        write(self._connection, self._timeout_s, topic, records, done=done)
