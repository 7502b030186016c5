"""How values become text on a terminal: times, durations, and text that others wrote.

Invariant: nothing that came from a record reaches a terminal as it is: control characters, escape sequences, and
characters that reorder or hide text are shown by their codes, so that a payload cannot move the cursor, rename the
window or look like something else.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import msgspec

from fairlane.topics.events import UNREADABLE

# C0 and C1 (0x9b alone begins an escape sequence), soft hyphen, zero-width space and bidirectional marks, line and
# paragraph separators, interlinear annotations, tags, and surrogates, which are no characters at all. Joiners and
# variation selectors stay: emoji are made of them.
_HIDDEN: Final = (
    "\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff0-\ufffb\U000e0000-\U000e0fff\ud800-\udfff"
)
_UNSAFE: Final = re.compile(f"[\x00-\x1f{_HIDDEN}]")
_UNSAFE_IN_LINES: Final = re.compile(f"[\x00-\x08\x0b-\x1f{_HIDDEN}]")
_HIDDEN_ONLY: Final = re.compile(f"[{_HIDDEN}]")
_SECOND_MS: Final = 1_000
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
_LAST_MS: Final = 253_370_764_800_000
"""The year 9999 begins: the last that a calendar of Python's has in every time zone."""
_HEX_WIDTH: Final = 16


def visible(text: str, *, lines: bool = False) -> str:
    r"""The text with everything that a terminal would act on shown by its code (`\x1b`, `\u202e`).

    Args:
        text: from anywhere.
        lines: whether line ends and tabs stay.
    """
    return (_UNSAFE_IN_LINES if lines else _UNSAFE).sub(_code, text)


def _code(match: re.Match[str]) -> str:
    number = ord(match[0])
    if match[0] in "\n\r\t":
        return {"\n": r"\n", "\r": r"\r", "\t": r"\t"}[match[0]]
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def json_text(raw: bytes) -> str:
    """JSON, indented, its numbers as they are written; what a terminal would act on is escaped as JSON has it.

    Raises:
        msgspec.DecodeError: it is no JSON.
    """
    return _harmless(msgspec.json.format(raw, indent=2).decode())


def json_line(raw: bytes) -> str:
    """The same on one line."""
    return _harmless(msgspec.json.format(raw, indent=-1).decode())


def _harmless(text: str) -> str:
    return _HIDDEN_ONLY.sub(lambda match: "".join(f"\\u{unit:04x}" for unit in _utf16(match[0])), text)


def _utf16(character: str) -> tuple[int, ...]:
    raw = character.encode("utf-16-be", "surrogatepass")
    return tuple(int.from_bytes(raw[start : start + 2], "big") for start in range(0, len(raw), 2))


def payload_text(raw: bytes) -> str:
    """A payload for people: indented if it is JSON, as it is if it is text, else a hex dump."""
    try:
        return json_text(raw)
    except UNREADABLE:
        pass
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return hex_dump(raw)
    return visible(text, lines=True) if text else "(empty)"


def hex_dump(raw: bytes) -> str:
    """Offsets, hexadecimal and printable ASCII, 16 bytes a line."""
    lines = []
    for start in range(0, len(raw), _HEX_WIDTH):
        part = raw[start : start + _HEX_WIDTH]
        ascii_part = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<{_HEX_WIDTH * 3 - 1}}  {ascii_part}")
    return "\n".join(lines)


def duration(ms: float) -> str:
    """A length of time: `3ms`, `1.2s`, `2m 5s`, `3h 20m`, `4d 3h`."""
    if ms < _SECOND_MS:
        return f"{ms:.0f}ms" if ms >= 10 or ms == int(ms) else f"{ms:.1f}ms"
    if ms < _MINUTE_MS:
        return f"{ms / _SECOND_MS:.1f}s"
    for unit_ms, part_ms, unit, part in (
        (_DAY_MS, _HOUR_MS, "d", "h"),
        (_HOUR_MS, _MINUTE_MS, "h", "m"),
        (_MINUTE_MS, _SECOND_MS, "m", "s"),
    ):
        if ms >= unit_ms:
            whole, rest = divmod(int(ms), unit_ms)
            return f"{whole}{unit} {rest // part_ms}{part}" if rest >= part_ms else f"{whole}{unit}"
    raise AssertionError(ms)


def age(ms: float) -> str:
    """How long something has been, in whole seconds or more: `0s`, `12s`, `2m 5s`."""
    return f"{max(0, int(ms)) // _SECOND_MS}s" if ms < _MINUTE_MS else duration(ms)


def moment(ms: int) -> str:
    """A Unix time in ms as local time with its offset from UTC; as the number that it is where no calendar has it."""
    if not 0 <= ms < _LAST_MS:
        return f"{ms} ms since 1970"
    return datetime.fromtimestamp(ms / 1000).astimezone().isoformat(sep=" ", timespec="milliseconds")


def seconds(value_s: float) -> str:
    """Seconds as the CLI's contract has them: `1.2s`, with three digits below a second."""
    return f"{value_s:.1f}s" if value_s >= 1 or value_s == 0 else f"{value_s:.3f}s"
