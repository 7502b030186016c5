"""Where a StatsD server is.

Invariant: what is no address is refused when settings are made, not when the first metric is sent.
"""

from __future__ import annotations

from fairlane.topics.errors import UsageError


def address(text: str) -> tuple[str, int]:
    """Host and port of `host:port`, `[::1]:port` or `host`, whose port is StatsD's 8125.

    Raises:
        UsageError: it is none of these.
    """
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, "8125"
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise UsageError(f"{text!r} is no address of a StatsD server", "Write host:port, such as 127.0.0.1:8125")
    return host.removeprefix("[").removesuffix("]"), int(port)
