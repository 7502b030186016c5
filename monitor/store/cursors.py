"""Where a page begins, as text that means nothing to others.

Invariant: it is the key of the last row of the page before, so that a page is found without what comes before it.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from fairlane.monitor.errors import CursorInvalid


def cursor_of(*key: int) -> str:
    """The cursor of the page behind the row of a key."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def read_cursor(text: str, length: int) -> list[int]:
    """The key that a cursor says.

    Raises:
        CursorInvalid: it is none of so many parts.
    """
    try:
        key = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=list[int])
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise CursorInvalid from error
    if len(key) != length or any(abs(part) >= 2**63 for part in key):
        raise CursorInvalid
    return key
