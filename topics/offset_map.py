"""What a commit says beside its offset: which records above the watermark are finished, and which lost workers.

Invariant: a map never calls finished what is not. Text that is not ours, is damaged, or was written for another
watermark decodes to None; nothing raises. What does not fit is cut from the top, so that a task may run again, but
none is lost.

The text is `fl1:` and the base64 of: crc32 (4 bytes, over the watermark in decimal and all that follows), flags (1 is
clean), then varints: highest finished + 1 - watermark, number of unfinished, their Rice parameter k, number of losses,
and per loss the distance to the one before (the first to the watermark) and the count. At the end come the unfinished
offsets as the gaps between them in a Golomb-Rice code (Golomb 1966, Rice 1979): first the quotients gap >> k in unary,
then the k low bits of each. k = 0 is exactly a bitmap, larger k are deltas cut to the bit, and k follows from the mean
gap: so one code is never larger than the better of a bitmap and delta-varints. Varints would not hold the promise
below: 1,000 unfinished offsets more than 16,384 apart take 3 bytes each, 4,000 of the 4,095 characters, and leave no
room for losses; in this code they take 2,000 bytes.
"""

from __future__ import annotations

import base64
import re
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from types import MappingProxyType
from typing import Final

from fairlane.topics.errors import QueueError

MAX_UNFINISHED: Final = 1_000
MAX_SPAN: Final = 20_000
MAX_LOSSES: Final = 64
METADATA_MAX_BYTES: Final = 4_095
"""What a broker takes by default: `offset.metadata.max.bytes` is 4096, and it refuses the very 4096. A map of at most
MAX_UNFINISHED unfinished offsets (over a span of up to 2**30) or of a span of at most MAX_SPAN, with at most MAX_LOSSES
losses, always fits."""

NO_LOSSES: Final[Mapping[int, int]] = MappingProxyType({})

VERSION: Final = 1
_PREFIX: Final = f"fl{VERSION}:"
_VERSIONED: Final = re.compile(r"fl([1-9][0-9]{0,5}):")
_CLEAN: Final = 1


@dataclass(eq=False)
class MapTooNew(QueueError):
    """A newer fairlane committed the map of `where`, a partition, and this one cannot read its `version`."""

    where: str
    version: int

    def __str__(self) -> str:
        return (
            f"the offset map of {self.where} is of version {self.version}, written by a newer fairlane, and this one "
            f"knows version {VERSION}: nothing was read, run or committed. Upgrade this worker"
        )


@dataclass(frozen=True, slots=True)
class OffsetMap:
    """What is known of a partition above (and at) the offset that is committed for it.

    Attributes:
        watermark: the committed offset; every offset below it is settled.
        highest_finished: no offset above it is settled; watermark - 1 if none is from the watermark on. It is settled
            itself unless it is among the unfinished: its record may be left to a later transaction.
        unfinished: the offsets in [watermark, highest_finished] that are known and not settled, ascending.
        losses: offset -> how many workers died on it; offsets of unsettled records only, also above highest_finished.
        clean: whether its writer left in order. An owner at work writes False, so that its sudden death shows.
    """

    watermark: int
    highest_finished: int
    unfinished: tuple[int, ...] = ()
    losses: Mapping[int, int] = field(default_factory=lambda: NO_LOSSES)
    clean: bool = False

    def finished(self, offset: int) -> bool:
        """Whether the record at the offset is settled, as far as the map knows."""
        if offset > self.highest_finished:
            return offset < self.watermark
        place = bisect_left(self.unfinished, offset)
        return place == len(self.unfinished) or self.unfinished[place] != offset

    def within(self, end: int) -> bool:
        """Whether the map speaks only of offsets below the log's end; do not trust one that does not."""
        return max((self.watermark - 1, self.highest_finished, *self.losses)) < end


def encode(known: OffsetMap) -> str:
    """The commit metadata for a map, at most METADATA_MAX_BYTES characters of ASCII.

    A map beyond the bounds that always fit is cut: of the losses the lowest MAX_LOSSES stay, of the finished offsets
    the lower ones.
    """
    if len(known.losses) > MAX_LOSSES:
        lowest = islice(sorted(known.losses.items()), MAX_LOSSES)
        known = replace(known, losses=dict(lowest))
    text = _text(known)
    while len(text) > METADATA_MAX_BYTES:
        half = known.unfinished[: len(known.unfinished) // 2]
        known = replace(known, highest_finished=known.unfinished[len(half)] - 1, unfinished=half)
        text = _text(known)
    return text


def decode(watermark: int, text: str) -> OffsetMap | None:
    """The map that `encode` wrote for this watermark; None where the text is anything else. Never raises."""
    if not text.startswith(_PREFIX) or len(text) > METADATA_MAX_BYTES:
        return None
    try:
        data = base64.b64decode(text[len(_PREFIX) :], validate=True)
        if len(data) < 5 or int.from_bytes(data[:4], "big") != _checksum(watermark, data[4:]):
            return None
        return _parse(watermark, data[4:])
    except (ValueError, IndexError):
        return None


def check_version(where: str, text: str) -> None:
    """Refuse a map that only a newer fairlane can read; any other text is for `decode` to judge.

    Raises:
        MapTooNew: what it calls finished is not known here: whoever read on would run all of it again.
    """
    found = _VERSIONED.match(text)
    if found and int(found[1]) > VERSION:
        raise MapTooNew(where, int(found[1]))


def _checksum(watermark: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(b"%d" % watermark))


def _text(known: OffsetMap) -> str:
    gaps = _gaps(known)
    k = max(0, (sum(gaps) // len(gaps)).bit_length() - 1) if gaps else 0
    body = bytearray([_CLEAN if known.clean else 0])
    for number in (known.highest_finished + 1 - known.watermark, len(gaps), k, len(known.losses)):
        _put(body, number)
    before = known.watermark
    for offset, count in sorted(known.losses.items()):
        _put(body, offset - before)
        _put(body, count)
        before = offset
    body += _rice(gaps, k)
    data = _checksum(known.watermark, bytes(body)).to_bytes(4, "big") + body
    return _PREFIX + base64.b64encode(data).decode("ascii")


def _gaps(known: OffsetMap) -> list[int]:
    """How many offsets lie between each unfinished one and the one before it."""
    before = (known.watermark - 1, *known.unfinished)
    return [offset - last - 1 for last, offset in zip(before, known.unfinished, strict=False)]


def _rice(gaps: list[int], k: int) -> bytes:
    if not gaps:
        return b""
    bits = "".join(["0" * (gap >> k) + "1" for gap in gaps])
    if k:
        mask, width = (1 << k) - 1, f"0{k}b"
        bits += "".join([format(gap & mask, width) for gap in gaps])
    size = -(-len(bits) // 8)
    return int(bits.ljust(size * 8, "0"), 2).to_bytes(size, "big")


def _unrice(data: bytes, count: int, k: int) -> list[int]:
    """The gaps; raises ValueError where the bits are not those of `count` gaps."""
    if not count:
        return []
    if count > len(data) * 8:
        raise ValueError
    bits = format(int.from_bytes(data, "big"), f"0{len(data) * 8}b")
    *quotients, low = bits.split("1", count)
    if len(quotients) != count or len(low) < count * k:
        raise ValueError
    if not k:
        return [len(quotient) for quotient in quotients]
    return [len(quotient) << k | int(low[i * k : i * k + k], 2) for i, quotient in enumerate(quotients)]


def _parse(watermark: int, body: bytes) -> OffsetMap | None:
    numbers = _Numbers(body, 1)
    highest = watermark - 1 + next(numbers)
    count, k, number_of_losses = next(numbers), next(numbers), next(numbers)
    losses: dict[int, int] = {}
    offset = watermark
    for _ in range(number_of_losses):
        offset += next(numbers)
        losses[offset] = next(numbers)
    unfinished = []
    offset = watermark - 1
    for gap in _unrice(body[numbers.place :], count, k):
        offset += gap + 1
        unfinished.append(offset)
    if offset > highest:
        return None
    return OffsetMap(watermark, highest, tuple(unfinished), MappingProxyType(losses), bool(body[0] & _CLEAN))


def _put(body: bytearray, number: int) -> None:
    """Append a varint: seven bits a byte, the low ones first, the top bit says that more follow (LEB128)."""
    while number > 0x7F:
        body.append(number & 0x7F | 0x80)
        number >>= 7
    body.append(number)


class _Numbers(Iterator[int]):
    """Reads varints from a place on; raises IndexError past the end, ValueError where one is no offset of Kafka's."""

    __slots__ = ("_data", "place")

    def __init__(self, data: bytes, place: int) -> None:
        self._data = data
        self.place = place

    def __next__(self) -> int:
        number = shift = 0
        while True:
            byte = self._data[self.place]
            self.place += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7
            if shift > 63:
                raise ValueError
