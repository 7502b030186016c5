"""A condition on a task: something in its payload, or a header, compared with a literal.

    /to = "x@y"        /amount >= 1000        /tags contains "beta"        /coupon exists        header:tenant = acme

Invariant: pure. A condition that cannot be evaluated for a task does not hold: what it speaks of is not there, or
cannot be compared so (there is no order between text and numbers, say). No payload makes it raise.

On the left is a JSON Pointer (RFC 6901), as it is or as a JSON string where it has spaces, or `header:` and a name, of
which the last header counts. On the right is JSON; what a header is compared with may be text without quotes, and where
it is a number, the header must be one. Numbers are equal by their value, everything else only to its own kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, Literal, get_args

import msgspec

from fairlane.topics.errors import UsageError
from fairlane.topics.events import UNREADABLE

Comparison = Literal["=", "!=", "<", "<=", ">", ">=", "contains", "exists"]

CONDITION_MAX: Final = 500
"""So many characters it has at most."""
NOTHING: Final[object] = object()
"""In place of a value that is not there."""

_HEADER: Final = "header:"
_FORM: Final = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\S+)\s+(\S+)(?:\s+(.*\S))?\s*', re.DOTALL)
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_ESCAPED: Final = re.compile(r"(?:[^~]|~[01])*")
_EXAMPLES: Final = "Say '/to = \"x@y\"', '/amount >= 1000', '/coupon exists' or 'header:tenant = acme'"


class Condition(msgspec.Struct, frozen=True):
    """One comparison, ready to be made.

    Attributes:
        pointer: the reference tokens of the JSON pointer; None where it is about a header.
        header: name of the header, or "".
        comparison: how it is compared.
        literal: with what.
    """

    pointer: tuple[str, ...] | None
    header: str
    comparison: Comparison
    literal: Any = None

    def holds(self, document: object, headers: Iterable[tuple[str, bytes | None]]) -> bool:
        """Whether it holds.

        Args:
            document: what `document_of` made of the payload.
            headers: of the record.
        """
        found = self._in_headers(headers) if self.pointer is None else resolve(document, self.pointer)
        if found is NOTHING:
            return False
        return _compare(self.comparison, found, self.literal)

    def _in_headers(self, headers: Iterable[tuple[str, bytes | None]]) -> object:
        raw: bytes | None = None
        for name, value in headers:
            if name == self.header:
                raw = value
        if raw is None:
            return NOTHING
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return NOTHING
        if not _is_number(self.literal):
            return text
        found = document_of(raw)
        return found if _is_number(found) else NOTHING


@lru_cache(maxsize=1_024)
def parse(text: str) -> Condition:
    """The condition that a text says.

    Raises:
        UsageError: it says none.
    """
    match = _FORM.fullmatch(text) if len(text) <= CONDITION_MAX else None
    if match is None:
        raise UsageError(f"{text[:100]!r} is no condition of up to {CONDITION_MAX} characters", _EXAMPLES)
    left, comparison, right = match[1], match[2], match[3] or ""
    if comparison not in get_args(Comparison):
        raise UsageError(f"{comparison[:20]!r} compares nothing", f"There are, between spaces: {_listed()}")
    if (comparison == "exists") == bool(right):
        says = "has something" if right else "has nothing"
        raise UsageError(f"{text[:100]!r} {says} after {comparison!r}", _EXAMPLES)
    if left.startswith('"'):
        left = _literal(left)
    if left.startswith(_HEADER) and len(left) > len(_HEADER):
        literal = _of_header(right) if right else None
        return Condition(None, left.removeprefix(_HEADER), comparison, literal)  # type: ignore[arg-type]
    return Condition(_tokens(left), "", comparison, _literal(right) if right else None)  # type: ignore[arg-type]


def document_of(payload: bytes) -> object:
    """What JSON says; NOTHING where it is none."""
    try:
        return msgspec.json.decode(payload)
    except UNREADABLE:
        return NOTHING


def resolve(document: object, tokens: Iterable[str]) -> object:
    """The value that a JSON pointer points at; NOTHING where there is none."""
    found = document
    for token in tokens:
        if isinstance(found, dict):
            found = found.get(token, NOTHING)
        elif isinstance(found, list) and _INDEX.fullmatch(token) and int(token) < len(found):
            found = found[int(token)]
        else:
            return NOTHING
    return found


def _tokens(pointer: str) -> tuple[str, ...]:
    if pointer and not pointer.startswith("/"):
        raise UsageError(f"{pointer[:100]!r} is neither a JSON pointer nor a header", _EXAMPLES)
    if not _ESCAPED.fullmatch(pointer):
        raise UsageError(f"{pointer[:100]!r} has a ~ that is neither ~0 nor ~1", "Write ~0 for ~, and ~1 for /")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:])


def _literal(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except UNREADABLE:
        raise UsageError(f"{text[:100]!r} is no JSON", 'Put text in quotes: "x@y"') from None


def _of_header(text: str) -> str | int | float:
    """What a header is compared with: a number, or text with or without quotes."""
    said = document_of(text.encode("utf-8", "replace"))
    if _is_number(said) or isinstance(said, str):
        return said  # type: ignore[return-value]
    return text


def _compare(comparison: Comparison, found: Any, literal: Any) -> bool:
    match comparison:
        case "exists":
            return True
        case "=":
            return _same(found, literal)
        case "!=":
            return not _same(found, literal)
        case "contains":
            return _contains(found, literal)
    if not ((isinstance(found, str) and isinstance(literal, str)) or (_is_number(found) and _is_number(literal))):
        return False
    match comparison:
        case "<":
            return bool(found < literal)
        case "<=":
            return bool(found <= literal)
        case ">":
            return bool(found > literal)
    return bool(found >= literal)


def _contains(found: object, literal: Any) -> bool:
    if isinstance(found, str):
        return isinstance(literal, str) and literal in found
    if isinstance(found, list):
        return any(_same(each, literal) for each in found)
    return isinstance(found, dict) and isinstance(literal, str) and literal in found


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; to Python, true is 1."""
    if _is_number(one) and _is_number(other):
        return bool(one == other)
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    return bool(one == other)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed() -> str:
    return " ".join(get_args(Comparison))
