"""What operators ask of all workers of a queue now, as one of them obeys it.

Invariant: a frozen value without I/O and clock; equal orders are obeyed equally, so nobody is told the same twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Orders(NamedTuple):
    """What is in force, but for cancels.

    Attributes:
        lanes: topics of the lanes of which nothing is to start.
        tiers: whether tiers are not to be read either.
        weights: of the lanes whose weight is another than the one that is configured, in order.
    """

    lanes: frozenset[str] = frozenset()
    tiers: bool = False
    weights: tuple[tuple[str, int], ...] = ()

    def weighed(self, configured: Mapping[str, int]) -> dict[str, int]:
        """The weights of all lanes, of which these are configured."""
        return {**configured, **{lane: weight for lane, weight in self.weights if lane in configured}}

    def __str__(self) -> str:
        said = ["the whole queue is paused"] if self.tiers else [f"{lane} is paused" for lane in sorted(self.lanes)]
        said += [f"{lane} has weight {weight}" for lane, weight in self.weights]
        return "; ".join(said) or "nothing"


NO_ORDERS: Final = Orders()
