"""Records for tests of the wire: the smallest of each form, and a `decode` that reads them from a lane or a tier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fairlane.topics import wire
from fairlane.topics.task import Task

TRACEPARENT: Final = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ID: Final = "0192f0c5-1c00-7000-8000-000000000001"
ID_MADE_AT_MS: Final = int("0192f0c51c00", 16)
PAYLOAD: Final = b'{"to": "ada@example.org"}'
APPENDED_MS: Final = 1_760_000_000_000

BINARY: Final[tuple[tuple[str, bytes | None], ...]] = (
    ("ce_specversion", b"1.0"),
    ("ce_id", ID.encode()),
    ("ce_source", b"/shop/web"),
    ("ce_type", b"send_email"),
    ("ce_time", b"2026-11-24T05:06:07.089Z"),
    ("content-type", b"application/json"),
    ("traceparent", TRACEPARENT),
)


def read(
    headers: Sequence[tuple[str, bytes | None]] | None = BINARY,
    value: bytes = PAYLOAD,
    *,
    key: bytes | None = b"ada",
    default_type: str | None = None,
) -> Task:
    """As a worker reads it from the lane `shop.p5`, partition 7, offset 42."""
    return wire.decode(
        "shop.p5", 7, 42, APPENDED_MS, key, value, headers, lane="shop.p5", priority=5, default_type=default_type
    )


def read_from_tier(
    headers: Sequence[tuple[str, bytes | None]], value: bytes = PAYLOAD, *, key: bytes | None = b"ada"
) -> Task:
    """As a worker reads it, a minute later, from the tier `shop.retry-1m`, partition 1, offset 3."""
    return wire.decode("shop.retry-1m", 1, 3, APPENDED_MS + 60_000, key, value, headers, lane=None, priority=3)


def with_header(name: str, value: bytes | None) -> tuple[tuple[str, bytes | None], ...]:
    """The binary record with one header set."""
    return (*(header for header in BINARY if header[0] != name), (name, value))


def without(name: str) -> tuple[tuple[str, bytes | None], ...]:
    """The binary record without a header."""
    return tuple(header for header in BINARY if header[0] != name)
