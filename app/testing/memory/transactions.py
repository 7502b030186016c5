"""The transactions of an in-memory broker: who may write under which id, and what is written together.

Invariant: all that a transaction wrote, and all offsets that it sent, become visible at one moment or never. Of one
transactional id only the newest session may write (KIP-98); a transaction that is open for longer than its timeout is
aborted, and its session fenced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fairlane.testing.memory.failures import fenced
from fairlane.testing.memory.group import Committed, Group, Partition
from fairlane.testing.memory.log import PartitionLog, Stored


class Session(NamedTuple):
    """What `init_transactions` returned to a producer."""

    transactional_id: str
    writer: int
    epoch: int


class Commit(NamedTuple):
    """A transaction that was committed.

    Attributes:
        transactional_id: of its producer.
        records: what it wrote, by partition, in order.
        offsets: what it committed, by group and partition.
    """

    transactional_id: str
    records: Mapping[Partition, list[Stored]]
    offsets: Mapping[str, Mapping[Partition, Committed]]


@dataclass
class _State:
    writer: int
    epoch: int
    timeout_s: float
    number: int = 0
    """Counts the transactions that have ended."""
    was_committed: bool = False
    open_since: float | None = None
    partitions: dict[Partition, None] = field(default_factory=dict)
    offsets: dict[str, dict[Partition, Committed]] = field(default_factory=dict)


class Transactions:
    """All transactional ids.

    Args:
        log_of: the log of a partition.
        group_of: the group of a name.
        committed: told of every transaction that is committed, at that moment.
    """

    def __init__(
        self,
        log_of: Callable[[Partition], PartitionLog],
        group_of: Callable[[str], Group],
        committed: Callable[[Commit], None],
    ) -> None:
        self._log_of = log_of
        self._group_of = group_of
        self._committed = committed
        self._states: dict[str, _State] = {}
        self._writers = 0

    def init(self, transactional_id: str, timeout_s: float) -> Session:
        """Begin a session; what an earlier one of this id left open is aborted, and that one is fenced."""
        state = self._states.get(transactional_id)
        if state is None:
            self._writers += 1
            state = self._states[transactional_id] = _State(self._writers, 0, timeout_s)
        else:
            self._end(transactional_id, state, commit=False)
            state.epoch += 1
            state.timeout_s = timeout_s
        return Session(transactional_id, state.writer, state.epoch)

    def number(self, session: Session) -> int:
        """The number of the session's next transaction to end.

        Raises:
            KafkaException: the session is fenced.
        """
        return self._get(session).number

    def write(self, session: Session, partition: Partition, now: float) -> int:
        """A record is about to be written to the partition; returns its writer.

        Raises:
            KafkaException: the session is fenced.
        """
        state = self._get(session)
        state.open_since = now if state.open_since is None else state.open_since
        state.partitions[partition] = None
        return state.writer

    def send_offsets(self, session: Session, group: str, offsets: Mapping[Partition, Committed], now: float) -> None:
        """Offsets become the group's when the transaction is committed.

        Raises:
            KafkaException: the session is fenced.
        """
        state = self._get(session)
        state.open_since = now if state.open_since is None else state.open_since
        state.offsets.setdefault(group, {}).update(offsets)
        pending = self._group_of(group).pending
        for partition in offsets:
            pending.setdefault(partition, set()).add(state.writer)

    def end(self, session: Session, number: int, *, commit: bool) -> None:
        """Commit or abort; to say it again of one that has ended so is harmless.

        Raises:
            KafkaException: the session is fenced, or the transaction has ended in the other way.
        """
        state = self._get(session)
        if number < state.number:
            if state.was_committed is not commit:
                raise fenced()
            return
        self._end(session.transactional_id, state, commit=commit)

    def expire(self, now: float) -> None:
        """Abort what is open for longer than its timeout."""
        for transactional_id, state in self._states.items():
            if state.open_since is not None and now - state.open_since > state.timeout_s:
                self._end(transactional_id, state, commit=False)
                state.epoch += 1

    def _get(self, session: Session) -> _State:
        state = self._states[session.transactional_id]
        if state.epoch != session.epoch:
            raise fenced()
        return state

    def _end(self, transactional_id: str, state: _State, *, commit: bool) -> None:
        if state.open_since is None:
            return
        records = {
            partition: self._log_of(partition).end_transaction(state.writer, commit=commit)
            for partition in state.partitions
        }
        offsets = state.offsets
        for name, sent in offsets.items():
            group = self._group_of(name)
            for partition in sent:
                group.pending[partition].discard(state.writer)
            if commit:
                group.offsets.update(sent)
        state.open_since = None
        state.partitions, state.offsets = {}, {}
        state.number += 1
        state.was_committed = commit
        if commit:
            self._committed(Commit(transactional_id, records, offsets))
