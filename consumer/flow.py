"""Back-pressure of the reader: which partitions are paused, and why.

Invariant: a partition is paused exactly while it has a reason to be. Its reasons are independent of each other:
`buffer` (its account holds as many records or bytes as it may, and it is not its turn), `share` (its lane is read ahead
of others), `map` (its offset map would no longer fit the commit metadata), `tier` (nothing of it is due) and `operator`
(its lane was paused; of a paused queue, the tiers too). Pausing
throws prefetched records away, so `buffer` has hysteresis: a lane that was full is read by turns (turns.py), and in
full when it runs low.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from fairlane.consumer.delivery import Partition
from fairlane.consumer.fair_reading import FairReading
from fairlane.consumer.turns import Limit, Turn, Turns
from fairlane.topics.offset_map import MAX_SPAN, MAX_UNFINISHED

LOW_SHARE: Final = 4
"""A lane that is down to a quarter of what it may hold is read in full: turns take longer than its records last."""


def limits_by_weight(weights: Mapping[str, int], total: int) -> dict[str, Limit]:
    """Share `total` records out over accounts in proportion to their weights, each at least 16.

    Watermarks in proportion to weight are what let lanes reach the shares that their weights say: with equal ones the
    light lanes are read as far ahead as the heavy ones, and the heavy ones run dry between two polls.
    """
    whole = sum(weights.values())
    limits = {}
    for account, weight in weights.items():
        high = max(16, total * weight // whole)
        limits[account] = Limit(high, high // LOW_SHARE)
    return limits


class _State:
    __slots__ = ("account", "paused", "reasons", "turn", "wait_until_ms")

    def __init__(self, account: str) -> None:
        self.account = account
        self.reasons: set[str] = set()
        self.turn = Turn()
        self.paused = False
        self.wait_until_ms = 0


class Flow:
    """Decides pause and resume; owned by the thread that owns the consumer.

    Args:
        limits: the bound of each account, in records.
        bytes_max: the bound of all accounts together, in bytes.
        weights: of the accounts that are lanes; they are read in proportion.
        window: how far one of these may be read ahead of its share, in records of all of them.
    """

    def __init__(
        self, limits: Mapping[str, Limit], bytes_max: int, weights: Mapping[str, int] | None = None, window: int = 0
    ) -> None:
        weights = weights or {}
        self._turns = {account: Turns(limit, takes_turns=account in weights) for account, limit in limits.items()}
        self._fair: FairReading[Partition] = FairReading(weights, window)
        self._weights = dict(weights)
        self._window = window
        self._bytes_max = bytes_max
        self._handed: dict[str, int] = dict.fromkeys(limits, 0)
        self._handed_bytes = 0
        self._heavy = False
        self._partitions: dict[Partition, _State] = {}
        self._held: frozenset[str] = frozenset()

    def assigned(self, partition: Partition, account: str) -> bool:
        """A partition came; returns whether it starts paused. Its state from an earlier assignment is not trusted."""
        state = _State(account)
        if self.full(account):
            state.reasons.add("buffer")
        if account in self._held:
            state.reasons.add("operator")
        state.paused = bool(state.reasons)
        self._partitions[partition] = state
        return state.paused

    def hold(self, accounts: frozenset[str]) -> None:
        """Read nothing of these accounts from the next update on, and of all others again."""
        self._held = accounts
        for partition, state in self._partitions.items():
            if state.account not in accounts:
                state.reasons.discard("operator")
            elif "operator" not in state.reasons:
                state.reasons.add("operator")
                # Nobody waits for what it would give.
                self._fair.ended(state.account, partition)

    def weigh(self, weights: Mapping[str, int]) -> None:
        """Read lanes in proportion to other weights from the next update on, each as far ahead as its own allows."""
        if weights != self._weights:
            self._weights = dict(weights)
            self._fair.weigh(weights)
            for account, limit in limits_by_weight(weights, self._window).items():
                self._turns[account].limit = limit

    def is_held(self, account: str) -> bool:
        """Whether an operator has paused it."""
        return account in self._held

    def gone(self, partition: Partition) -> None:
        """A partition left."""
        state = self._partitions.pop(partition, None)
        if state is not None:
            self._fair.ended(state.account, partition)

    def came(self, partition: Partition, records: int) -> None:
        """Records of a partition were read, whatever becomes of them."""
        state = self._partitions[partition]
        self._fair.came(state.account, partition, records)
        self._turns[state.account].came(state.turn, records)

    def reached_end(self, partition: Partition) -> None:
        """A partition has no more records now."""
        state = self._partitions[partition]
        self._fair.ended(state.account, partition)
        self._turns[state.account].reached_end(state.turn)

    def nothing_came(self) -> None:
        """A poll was in vain: nobody is held back for the sake of others that have nothing to give."""
        self._fair.nothing_came()

    def handed(self, account: str, records: int, size_bytes: int) -> None:
        """Records were handed on under an account."""
        self._handed[account] += records
        self._handed_bytes += size_bytes
        self._turns[account].handed(records, size_bytes)

    @property
    def total(self) -> dict[str, int]:
        """Records handed on since the beginning, by account."""
        return self._handed.copy()

    def wait(self, partition: Partition, until_ms: int) -> None:
        """Nothing of a tier's partition is due before `until_ms`: neither its head nor what may yet come."""
        state = self._partitions[partition]
        state.reasons.add("tier")
        state.wait_until_ms = until_ms

    def overfull(self, partition: Partition) -> None:
        """The next record of the partition would leave both bounds of its offset map."""
        self._partitions[partition].reasons.add("map")

    @property
    def next_due_ms(self) -> int | None:
        """When the first of the waiting tiers is due."""
        waits = [state.wait_until_ms for state in self._partitions.values() if "tier" in state.reasons]
        return min(waits, default=None)

    @property
    def held_back(self) -> bool:
        """Whether anything is paused that work of others may resume: then the reader looks again soon."""
        return any(
            state.reasons & {"buffer", "map", "share"} and "operator" not in state.reasons
            for state in self._partitions.values()
        )

    def full(self, account: str) -> bool:
        """Whether the account is read as far ahead as it may be."""
        return self._turns[account].is_full or self._heavy

    def relieve(self, relieved: Iterable[Partition], now_ms: int) -> None:
        """End the waits that are over.

        Args:
            relieved: partitions whose offset map has room again.
            now_ms: Unix ms.
        """
        for partition in relieved:
            if partition in self._partitions:
                self._partitions[partition].reasons.discard("map")
        for state in self._partitions.values():
            if "tier" in state.reasons and state.wait_until_ms <= now_ms:
                state.reasons.discard("tier")

    def may_take(self, partition: Partition) -> bool:
        """Whether records of the partition that are here already may be handed on."""
        return not self._partitions[partition].reasons & {"map", "tier"}

    def update(
        self, taken: Mapping[str, int], taken_bytes: int, unsettled_bytes: int = 0
    ) -> tuple[list[Partition], list[Partition]]:
        """Look again at everything; returns what to pause now and what to resume now.

        Args:
            taken: records taken from each account since the beginning.
            taken_bytes: bytes taken from all accounts since the beginning.
            unsettled_bytes: bytes of outcomes that wait to be settled.
        """
        waiting = {account: handed - taken.get(account, 0) for account, handed in self._handed.items()}
        for account, turns in self._turns.items():
            if turns.look(waiting[account]):
                turns.give(waiting[account], self._readable(account))
        held_bytes = self._handed_bytes - taken_bytes + unsettled_bytes
        self._heavy = held_bytes >= self._bytes_max or (self._heavy and held_bytes > self._bytes_max // 2)
        ahead = self._fair.ahead({account for account, turns in self._turns.items() if turns.is_full})
        pause: list[Partition] = []
        resume: list[Partition] = []
        for partition, state in self._partitions.items():
            account = state.account
            if self._heavy or not self._turns[account].may_read(state.turn, waiting[account]):
                state.reasons.add("buffer")
            else:
                state.reasons.discard("buffer")
            if state.account in ahead:
                state.reasons.add("share")
            else:
                state.reasons.discard("share")
            if state.paused != bool(state.reasons):
                state.paused = not state.paused
                (pause if state.paused else resume).append(partition)
        return pause, resume

    def _readable(self, account: str) -> list[Turn]:
        states = (each for each in self._partitions.values() if each.account == account)
        return [state.turn for state in states if not state.reasons & {"map", "tier", "operator"}]


def fits_map(outstanding: int, span: int) -> bool:
    """Whether an offset map of so many unfinished offsets over such a span is sure to fit the commit metadata."""
    return outstanding <= MAX_UNFINISHED or span <= MAX_SPAN


def has_room_again(outstanding: int, span: int) -> bool:
    """Whether a partition that was paused for its map is read again: half of either bound."""
    return outstanding <= MAX_UNFINISHED // 2 or span <= MAX_SPAN // 2


def map_fullness(outstanding: int, span: int) -> float:
    """How much of its offset map a partition has used; at 1 it is paused until some of it is settled."""
    return min(outstanding / MAX_UNFINISHED, span / MAX_SPAN)
