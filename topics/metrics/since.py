"""What counters and histograms have gained since they were last read, for whoever is told differences.

Invariant: no I/O; what a counter had before it was first read counts as gained then, and one that began anew (a worker
that was started again has another process, and so another of these) is told from its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlane.topics.metrics.measure import Measure, Reading, Spread

_Key = tuple[str, tuple[str, ...]]


class Since:
    """Remembers what was read."""

    def __init__(self) -> None:
        self._values: dict[_Key, float] = {}
        self._spreads: dict[_Key, Spread] = {}

    def gained(self, reading: Reading) -> Reading:
        """A counter or histogram with what it has gained since the last time; any other as it is."""
        measure = reading.measure
        if measure.kind == "counter":
            return Reading(measure, {key: self._more(measure, key, value) for key, value in reading.values.items()})
        if measure.kind == "histogram":
            spreads = {key: self._more_spread(measure, key, spread) for key, spread in reading.spreads.items()}
            return Reading(measure, {}, spreads)
        return reading

    def _more(self, measure: Measure, key: tuple[str, ...], value: float) -> float:
        before = self._values.get((measure.name, key), 0)
        self._values[measure.name, key] = value
        return value - before if value >= before else value

    def _more_spread(self, measure: Measure, key: tuple[str, ...], spread: Spread) -> Spread:
        now = Spread(tuple(spread.counts), spread.sum)
        before = self._spreads.get((measure.name, key))
        self._spreads[measure.name, key] = now
        if before is None or any(less > more for less, more in zip(before.counts, now.counts, strict=True)):
            return Spread(now.counts, now.sum, spread.examples)
        counts = _less(now.counts, before.counts)
        fresh = {bucket: each for bucket, each in spread.examples.items() if counts[bucket]}
        return Spread(counts, max(0.0, now.sum - before.sum), fresh)


def _less(now: Sequence[int], before: Sequence[int]) -> tuple[int, ...]:
    return tuple(more - less for more, less in zip(now, before, strict=True))
