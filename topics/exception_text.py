"""What logs and spans have of an exception: its class, where it was raised and, unless it is turned off, what it says.

Invariant: it is bounded text whatever the exception is made of, making it raises nothing, it is UTF-8, and no secret of
Kafka's is in it. Whether it says anything is one switch for the whole process, as its log and its tracer are; what is
stored in Kafka with an outcome and a dead letter has all of it either way.
"""

from __future__ import annotations

import traceback
from typing import Final

from fairlane.topics.secrets import redacted

MESSAGE_MAX_CHARS: Final = 2_000
TRACE_MAX_CHARS: Final = 8_000
_CHAIN_MAX: Final = 10

_shown = True


def show(is_shown: bool) -> None:
    """Whether logs and spans have what exceptions say, from now on."""
    global _shown
    _shown = is_shown


def is_shown() -> bool:
    """Whether they do."""
    return _shown


def message_of(error: BaseException) -> str:
    """What it says, the beginning of it."""
    try:
        message = str(error)
    except BaseException as broken:  # noqa: BLE001 - a __str__ of the user's may do anything
        message = f"<its message could not be made: {type(broken).__name__}>"
    # Redacted before it is cut: half a secret would not be found.
    return clean(redacted(message)[:MESSAGE_MAX_CHARS])


def trace_of(error: BaseException) -> str:
    """Its traceback as Python prints it, the end of it; "" where it cannot be made."""
    try:
        return clean(_end(redacted("".join(traceback.format_exception(error)))))
    except BaseException:  # noqa: BLE001 - formatting calls the same __str__
        return ""


def places_of(error: BaseException) -> str:
    """Where it and its causes were raised: files, lines, functions and classes, and nothing that any of them says."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(parts) < _CHAIN_MAX:
        frames = traceback.walk_tb(cause.__traceback__)
        lines = [
            f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}' for frame, line in frames
        ]
        parts.append("\n".join([*lines, type(cause).__qualname__]))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return clean(_end("\n\n".join(reversed(parts))))


def clean(text: str) -> str:
    """The text without lone surrogates, which are legal in str and illegal in UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _end(text: str) -> str:
    return text if len(text) <= TRACE_MAX_CHARS else "…" + text[-TRACE_MAX_CHARS:]
