"""The partitions that a task holds back, as lines of text.

Invariant: it only shows, and nothing that came from a record reaches a terminal as it is.
"""

from __future__ import annotations

from typing import Final

from fairlane.monitor.show import visible
from fairlane.monitor.stats import Stats
from fairlane.topics.held_back import sentence

_SHOWN: Final = 5


def held_back_lines(stats: Stats) -> tuple[str, ...]:
    """A line for each of the partitions that are held back most, and how many more there are."""
    lines = [visible(sentence(held, stats.at_ms)) for held in stats.held_back[:_SHOWN]]
    if len(stats.held_back) > _SHOWN:
        lines.append(f"{len(stats.held_back) - _SHOWN} more partitions are held back")
    return tuple(lines)
