"""Whether a payload can be edited as text in a page.

Invariant: what comes back from the text box is byte for byte what was put in, unless somebody changed it; a payload
that would not come back like that is not put in.

Source: HTML Living Standard, 4.10.11 (the raw value of a textarea), 13.2.3.5 (what its parser makes of CR), 13.2.5.2
(and of NUL).
"""

from __future__ import annotations

from dataclasses import dataclass

from fairlane.monitor.api.letter_routes import MOST_CHARS


@dataclass(frozen=True)
class Editable:
    """A payload as text, or the `problem` that it cannot be edited as such."""

    text: str = ""
    problem: str = ""


def editable(payload: bytes) -> Editable:
    """What a text box may be filled with."""
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        return Editable(problem=f"it is not UTF-8 (byte {error.start:,} is 0x{payload[error.start]:02x})")
    if "\r" in text:
        return Editable(problem="it has carriage returns, which browsers turn into other line ends")
    if "\0" in text:
        return Editable(problem="it has NUL characters, which browsers replace")
    if len(text) > MOST_CHARS:
        return Editable(problem=f"it has {len(text):,} characters, more than the {MOST_CHARS:,} that are taken")
    return Editable(text)
