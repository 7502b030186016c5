"""Changes the payloads of dead letters on their way back.

Invariant: no I/O. What an edit does not name stays byte for byte, numbers too; key and headers are never touched, and
the value stays of the form that it had: a CloudEvent stays one, with its other attributes.

Sources: RFC 7396 (JSON Merge Patch), CloudEvents 1.0 JSON format.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from fairlane.monitor.letter import Letter
from fairlane.topics.bodies import is_json
from fairlane.topics.errors import UsageError
from fairlane.topics.events import UNREADABLE

_STRUCTURED: Final = "application/cloudevents"


class Unfit(Exception):
    """A letter that cannot be sent as it would be; its text says why."""


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do with the payload of each letter.

    Attributes:
        kind: `payload` puts another one in its place; `merge` merges a JSON merge patch into it.
        text: the payload, or the patch, as text.

    Raises:
        UsageError: the patch is no JSON object.
    """

    kind: Literal["payload", "merge"]
    text: str

    def __post_init__(self) -> None:
        if self.kind == "merge" and not (is_valid_json(self.text.encode("utf-8", "replace")) and _object(self.text)):
            raise UsageError(
                f"{self.text[:100]!r} is no JSON merge patch that changes anything",
                'Write an object of what changes, null for what goes: {"to": "ada@example.org", "cc": null} (RFC 7396)',
            )


def edited(letter: Letter, edit: Edit) -> bytes:
    """The payload of the letter as the edit makes it.

    Raises:
        Unfit: it is no JSON afterwards, or was none before a patch.
    """
    raw = edit.text.encode("utf-8", "surrogateescape")
    # Of a record that is no task nothing says what it should have been: JSON is, and only that can be a task by itself.
    says_json = not letter.content_type or is_json(letter.content_type) or letter.reason == "malformed"
    if edit.kind == "payload":
        if says_json and not is_valid_json(raw):
            raise Unfit(f"the new payload is no JSON: {_problem(raw)}")
        return raw
    if not is_valid_json(letter.payload):
        raise Unfit(f"its payload is no JSON, so nothing can be merged into it: {_problem(letter.payload)}")
    return merged(letter.payload, raw)


def merged(target: bytes, patch: bytes) -> bytes:
    """JSON with a merge patch applied (RFC 7396, section 2); both are valid JSON."""
    changes = _object(patch)
    if changes is None:
        return patch
    fields = _object(target) or {}
    for name, change in changes.items():
        if bytes(change).strip() == b"null":
            fields.pop(name, None)
        else:
            fields[name] = msgspec.Raw(merged(bytes(fields.get(name, b"null")), bytes(change)))
    return msgspec.json.encode(fields)


def with_payload(letter: Letter, payload: bytes) -> bytes:
    """The value of the letter's record with another payload in it, in the form that it has.

    Raises:
        Unfit: the value says nothing of where the payload is.
    """
    value = letter.record.value or b""
    if payload == letter.payload:
        return value
    if value == letter.payload:
        return payload
    fields = _object(value) if is_valid_json(value) else None
    if fields is None:
        raise Unfit("its value is neither its payload nor a JSON object with it")
    headers = dict(letter.record.headers)
    if not (headers.get("content-type") or b"").decode("utf-8", "replace").lower().startswith(_STRUCTURED):
        fields["payload"] = msgspec.Raw(payload)
    elif is_json(letter.content_type):
        fields.pop("data_base64", None)
        fields["data"] = msgspec.Raw(payload)
    else:
        fields.pop("data", None)
        fields["data_base64"] = msgspec.Raw(msgspec.json.encode(payload))
    return msgspec.json.encode(fields)


def is_valid_json(raw: bytes) -> bool:
    """Whether bytes are one JSON value, in UTF-8."""
    return not _problem(raw)


def _problem(raw: bytes) -> str:
    try:
        raw.decode()
        msgspec.json.decode(raw)
    except UNREADABLE as error:
        return str(error)[:200] or type(error).__name__
    return ""


def _object(raw: bytes | str) -> dict[str, msgspec.Raw] | None:
    """The fields of a JSON object, each as it stands there; None of any other JSON."""
    text = raw.encode("utf-8", "replace") if isinstance(raw, str) else raw
    return msgspec.json.decode(text, type=dict[str, msgspec.Raw]) if text.lstrip()[:1] == b"{" else None
