"""Task ids: UUIDv7 (RFC 9562), so that an id tells when it was made and a search knows where to begin."""

from __future__ import annotations

import re
import sys
from hashlib import blake2b
from uuid import UUID

if sys.version_info >= (3, 14):
    from uuid import uuid7

    def new_id() -> str:
        """A fresh UUIDv7 as text."""
        return str(uuid7())
else:
    from uuid_utils import uuid7

    def new_id() -> str:
        """A fresh UUIDv7 as text."""
        return str(uuid7())


_48, _12, _62 = (1 << 48) - 1, (1 << 12) - 1, (1 << 62) - 1

_UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)


def derived_id(text: str, at_ms: int) -> str:
    """The UUIDv7 of a text and a time: the same ones always have the same.

    Args:
        text: what it is derived from; other texts have other ids.
        at_ms: when it was made, by what it says, Unix ms.
    """
    bits = int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=10).digest())
    return str(
        UUID(int=(at_ms & _48) << 80 | 7 << 76 | (bits >> 62 & _12) << 64 | 2 << 62 | bits & _62)  # RFC 9562, 5.7
    )


def made_at_ms(task_id: str) -> int | None:
    """When a UUIDv7 was made, in Unix milliseconds; None for any other id (a foreign client may use what it likes)."""
    match = _UUID7.fullmatch(task_id)
    return int(match[1] + match[2], 16) if match else None
