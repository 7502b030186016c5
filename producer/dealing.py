"""Which partition each of many tasks goes to, where no key says it.

Invariant: the tasks of a topic are dealt evenly over its partitions, whatever else is sent with them, so that as many
workers as there are share them from the start; and in runs, since a run is one batch to librdkafka, to the broker and
to whoever reads it. A task with a key goes where the key says (topics/partitioner.py), and a single one anywhere.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Final

from fairlane.topics.task import Task

BY_LIBRDKAFKA: Final = -1
"""It chooses the partition: by the key, or any."""

LONGEST_RUN: Final = 500
"""What a producer sends within some milliseconds: however many follow, no partition waits long for its first."""


def deal(tasks: Sequence[Task], topics: Sequence[str], partitions: Mapping[str, Sequence[int]]) -> list[int]:
    """The partition of each task, or BY_LIBRDKAFKA.

    Args:
        tasks: what is sent, in order.
        topics: the topic of each.
        partitions: those of each topic that take records now; none where that is not known.
    """
    if len(tasks) == 1:
        return [BY_LIBRDKAFKA]
    counts = Counter([topic for task, topic in zip(tasks, topics, strict=True) if task.key is None])
    hands = {topic: _hand(partitions[topic], count) for topic, count in counts.items()}
    return [
        next(hands[topic]) if task.key is None else BY_LIBRDKAFKA for task, topic in zip(tasks, topics, strict=True)
    ]


def _hand(partitions: Sequence[int], count: int) -> Iterator[int]:
    """Partitions for so many tasks: rounds that begin at any of them and give each a run, the last a single task."""
    if not partitions:
        yield from repeat(BY_LIBRDKAFKA)
    first = random.randrange(len(partitions))  # noqa: S311 - nobody gains by guessing it
    turned = [*partitions[first:], *partitions[:first]]
    while count > 0:
        run = min(LONGEST_RUN, max(1, count // len(turned)))
        for partition in turned:
            yield from repeat(partition, run)
        count -= run * len(turned)
