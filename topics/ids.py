"""Task ids: UUIDv7 (RFC 9562), so that an id tells when it was made and a search knows where to begin."""

from __future__ import annotations

import re
import sys

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


_UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)


def made_at_ms(task_id: str) -> int | None:
    """When a UUIDv7 was made, in Unix milliseconds; None for any other id (a foreign client may use what it likes)."""
    match = _UUID7.fullmatch(task_id)
    return int(match[1] + match[2], 16) if match else None
