"""Whether a series of samples grows without end: a robust slope, judged against a bound that noise does not reach.

Invariant: a series is said to grow only if three things are true at once: the *lower* end of the slope's confidence
interval is above the bound, the growth while it was looked at is more than a step that any allocator makes, and there
were enough windows to tell.

The slope is the median of the slopes between all pairs of points (Theil 1950, Sen 1968): a quarter of the points may be
anything. Its interval is by the ranks of those slopes (Sen 1968, with Kendall's variance). It supposes points that are
independent, which samples that follow each other closely are not; so the points are the medians of windows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import median
from typing import Final

WINDOWS: Final = 30
"""Into how many windows a series is cut; fewer where there are fewer than three samples for each."""
WINDOW_SAMPLES: Final = 3
ENOUGH_WINDOWS: Final = 10
SURE: Final = 2.576
"""Standard deviations: 99 % to both sides together, so the lower end is passed by chance once in 200."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Bound:
    """How much a series may grow.

    Attributes:
        per_hour: as a part of its level, in an hour: 0.05 is 5 %.
        growth: what it may always grow by while it is looked at, in its own unit.
    """

    per_hour: float
    growth: float


@dataclass(frozen=True)
class Slope:
    """What a series did after the warm-up.

    Attributes:
        level: its median, in its own unit.
        per_hour: how much it grows in an hour, as a part of its level.
        least_per_hour: the lower end of that, by its confidence interval.
        growth: by how much it grew while it was looked at, in its own unit, by the slope.
        found_from: the growth in an hour, in its own unit, that such a run finds as often as not: by the bound, by how
            long it was looked at, and by how much it varied. Slower growth needs a longer run.
        bound: what it was judged against.
        judged: whether there were enough samples to judge it.
        grows: whether it grows beyond its bound.
    """

    level: float
    per_hour: float
    least_per_hour: float
    growth: float
    found_from: float
    bound: Bound
    judged: bool
    grows: bool


def judge(samples: Points, bound: Bound) -> Slope:
    """Judge a series.

    Args:
        samples: moment in seconds, and value; in order, the warm-up left out.
        bound: how much it may grow.
    """
    points = windows(samples)
    if len(points) < 2:
        level = median(value for _, value in samples) if samples else 0.0
        return Slope(level, 0.0, 0.0, 0.0, math.inf, bound, judged=False, grows=False)
    level = median(value for _, value in points)
    slope, least = theil_sen(points)
    hour = 3600.0 / max(abs(level), 1.0)
    span_s = samples[-1][0] - samples[0][0]
    growth = slope * span_s
    found_from = max(bound.growth * 3600.0 / span_s, bound.per_hour * max(abs(level), 1.0) + (slope - least) * 3600.0)
    judged = len(points) >= ENOUGH_WINDOWS
    grows = judged and least * hour > bound.per_hour and growth > bound.growth
    return Slope(level, slope * hour, least * hour, growth, found_from, bound, judged, grows)


def windows(samples: Points) -> list[tuple[float, float]]:
    """Moments and values of the series' windows: the medians of each."""
    count = min(WINDOWS, len(samples) // WINDOW_SAMPLES)
    edges = [len(samples) * number // max(count, 1) for number in range(count + 1)]
    parts = [samples[start:end] for start, end in pairwise(edges)]
    return [(median(moment for moment, _ in part), median(value for _, value in part)) for part in parts]


def theil_sen(points: Points) -> tuple[float, float]:
    """The slope, and the lower end of its confidence interval, per second.

    Args:
        points: at least two, at moments that differ.
    """
    slopes = sorted((after - before) / (end - start) for (start, before), (end, after) in combinations(points, 2))
    count = len(points)
    spread = SURE * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    lowest = max(0, math.floor((len(slopes) - spread) / 2))
    return median(slopes), slopes[lowest]
