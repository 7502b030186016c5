"""Values that say themselves which task they are: CloudEvents in structured mode, and bare JSON.

Invariant: the payload is cut out of the value as it stands there, never decoded and encoded again, so numbers, the
order of fields and spaces reach the handler as the producer wrote them.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fairlane.topics.errors import MalformedRecord
from fairlane.topics.events import UNREADABLE

JSON: Final = "application/json"


class Said(msgspec.Struct, frozen=True, gc=False):
    """What a value says of its task; "" where it says nothing."""

    type: str
    payload: bytes
    id: str = ""
    source: str = ""
    time: str = ""
    content_type: str = JSON
    traceparent: str = ""
    tracestate: str = ""


class _Event(msgspec.Struct):
    """A CloudEvent in its JSON format; extension attributes that are not here do not concern us."""

    type: str
    specversion: str = "1.0"
    id: str = ""
    source: str = ""
    time: str | None = None
    datacontenttype: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    data_base64: bytes | None = None
    traceparent: str | None = None
    tracestate: str | None = None


class _Bare(msgspec.Struct):
    type: str
    payload: msgspec.Raw = msgspec.Raw()
    id: str = ""


class _BareOnly(msgspec.Struct, forbid_unknown_fields=True):
    """Bare JSON among the records of a foreign topic: it must be nothing else."""

    type: str
    payload: msgspec.Raw
    id: str = ""


_event_decoder: Final = msgspec.json.Decoder(_Event)
_bare_decoder: Final = msgspec.json.Decoder(_Bare)
_bare_only_decoder: Final = msgspec.json.Decoder(_BareOnly)
_text_decoder: Final = msgspec.json.Decoder(str)


def is_json(media_type: str) -> bool:
    """Whether a media type says JSON (`application/json`, `application/vnd.x+json; charset=utf-8`)."""
    essence = media_type.partition(";")[0].strip().lower()
    return essence.endswith(("/json", "+json"))


def read_structured(value: bytes, content_type: str) -> Said:
    """The CloudEvent of a value in structured mode.

    Raises:
        MalformedRecord: the value is no CloudEvent in JSON.
    """
    essence = content_type.partition(";")[0].strip().lower()
    if essence not in ("application/cloudevents+json", "application/cloudevents"):
        raise MalformedRecord(f"content-type is {essence[:100]!r}; of structured CloudEvents only JSON is understood")
    try:
        event = _event_decoder.decode(value)
        if event.specversion != "1.0":
            raise MalformedRecord(f"specversion is {event.specversion[:30]!r}, not 1.0")
        media_type = event.datacontenttype or JSON
        return Said(
            event.type,
            _data(event, media_type),
            event.id,
            event.source,
            event.time or "",
            media_type,
            event.traceparent or "",
            event.tracestate or "",
        )
    except UNREADABLE as error:
        raise MalformedRecord(f"the value is no CloudEvent in JSON: {_why(error)}") from None


def _data(event: _Event, media_type: str) -> bytes:
    data = bytes(event.data)
    if event.data_base64 is not None:
        if data:
            raise MalformedRecord("the CloudEvent has both data and data_base64")
        return event.data_base64
    if data[:1] == b'"' and not is_json(media_type):
        # A JSON string is how the JSON format carries text of another media type (section 3.1.1).
        return _text_decoder.decode(data).encode()
    return data


def read_bare(value: bytes) -> Said:
    """The task of a value `{"type": …, "payload": …, "id": …}`; other fields are somebody else's.

    Raises:
        MalformedRecord: the value is no such object.
    """
    try:
        bare = _bare_decoder.decode(value)
        return Said(bare.type, bytes(bare.payload), bare.id)
    except UNREADABLE as error:
        raise MalformedRecord(
            f"the record has no ce_type header and its value is no JSON object with a type: {_why(error)}"
        ) from None


def read_bare_only(value: bytes) -> Said | None:
    """As `read_bare`, but None unless the value is an object of type, payload and perhaps id, and of nothing else."""
    try:
        bare = _bare_only_decoder.decode(value)
        return Said(bare.type, bytes(bare.payload), bare.id)
    except UNREADABLE:
        return None


def _why(error: Exception) -> str:
    return f"{str(error)[:200]}" or type(error).__name__
