"""Dead letters that died of the same thing, as groups: by type, reason and error.

Invariant: no I/O. What differs from task to task in a message (numbers, ids, what is in quotes) does not tell groups
apart, and the id of a group is the same whoever makes it, so that it can be said to another command.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from fairlane.monitor.letter import Letter

_SHAPE_LENGTH: Final = 160
_VARIES: Final = (
    (re.compile(r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"'[^'\n]{0,200}'"), "'…'"),
    (re.compile(r'"[^"\n]{0,200}"'), '"…"'),
    (re.compile(r"\b(?:0x)?(?=[0-9a-fA-F]*[0-9])[0-9a-fA-F]{8,}\b"), "<id>"),
    (re.compile(r"[0-9]+(?:[.,][0-9]+)*"), "<n>"),
)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Letters of one kind.

    Attributes:
        id: names it; a filter takes it.
        error: type and message of the error, with what varies left out.
        count: how many they are.
        oldest_ms: when the first of them came into the DLQ, Unix ms.
        newest_ms: when the last did.
        newest: the last, as `topic/partition/offset`.
        example: its error in full.
        replays: how often one of them was put back at most.
    """

    id: str
    type: str
    reason: str
    error: str
    count: int
    oldest_ms: int
    newest_ms: int
    newest: str
    example: str
    replays: int = 0


def shape_of(error: str) -> str:
    """An error with what varies left out: its first line, cut."""
    text = error.partition("\n")[0]
    for pattern, instead in _VARIES:
        text = pattern.sub(instead, text)
    return text[:_SHAPE_LENGTH]


def group_of(letter: Letter) -> str:
    """Id of the group that a letter is in: 8 hexadecimal digits."""
    parts = "\0".join((letter.type, letter.reason, shape_of(letter.error)))
    return hashlib.blake2s(parts.encode("utf-8", "replace"), digest_size=4).hexdigest()


def grouped(letters: Iterable[Letter]) -> tuple[Group, ...]:
    """The groups of letters, the largest first."""
    found: dict[str, Group] = {}
    for letter in letters:
        name, at_ms = group_of(letter), letter.record.timestamp_ms
        group = found.get(name)
        newer = group is None or at_ms >= group.newest_ms
        found[name] = Group(
            id=name,
            type=letter.type,
            reason=letter.reason,
            error=shape_of(letter.error),
            count=1 + (group.count if group else 0),
            oldest_ms=min(at_ms, group.oldest_ms if group else at_ms),
            newest_ms=max(at_ms, group.newest_ms if group else at_ms),
            newest=letter.place if newer or group is None else group.newest,
            example=letter.error if newer or group is None else group.example,
            replays=max(letter.replays, group.replays if group else 0),
        )
    return tuple(sorted(found.values(), key=lambda group: (-group.count, group.id)))
