"""One type, from and to JSON: pydantic for what users write, msgspec for its Structs and for what pydantic cannot do.

Invariant: what does not fit is an Unfit with one line per error, short, and without any value of the payload's, since
it is logged; JSON from outside never ends in another exception of pydantic's or msgspec's. Types are looked at once,
when the task is defined, and what cannot be JSON is said there.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

import msgspec
import pydantic
from pydantic_core import ErrorDetails, PydanticSerializationError, SchemaSerializer, to_jsonable_python

from fairlane.topics.errors import UsageError

BASE64: Final = pydantic.ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
"""How bytes are JSON where no model says otherwise."""

_MAX_ERRORS: Final = 20
_MAX_LISTED: Final = 1_000
"""pydantic describes all errors or none, and a payload may have as many as bytes."""
_MAX_LINE: Final = 300
_MAX_NAME: Final = 60
# Where msgspec and pydantic repeat a value in what they say.
_VALUE: Final = re.compile(r"^(Invalid (?:enum )?value) .*?(?= - at `\$|$)", re.DOTALL)
_WRITTEN_VALUE: Final = re.compile(r"input_value=.*, (?=input_type=)", re.DOTALL)


def _write_model(value: Any) -> Any:
    return to_jsonable_python(value, by_alias=True, round_trip=True, bytes_mode="base64")


_encoder: Final = msgspec.json.Encoder(enc_hook=_write_model)


class Unfit(Exception):
    """A value does not fit its type; `errors` says where and why, one line each."""

    def __init__(self, errors: tuple[str, ...]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


class Codec(Protocol):
    """Turns JSON into a value of one type, and back."""

    def load(self, data: bytes) -> Any:
        """The value. Raises Unfit."""
        ...

    def dump(self, value: Any) -> bytes:
        """JSON of a value, checked. Raises Unfit."""
        ...


class PydanticCodec:
    """pydantic's view of a type: lax, names by alias."""

    def __init__(self, adapter: pydantic.TypeAdapter[Any]) -> None:
        self._adapter = adapter
        # Without the adapter's own layer, which looks at a dozen options that are not used here.
        self._validate_json = adapter.validator.validate_json
        self._to_json = adapter.serializer.to_json
        if adapter.core_schema["type"] == "typed-dict":
            # pydantic 2.14 serialises a TypedDict as if it had no config of its own.
            self._to_json = SchemaSerializer(adapter.core_schema, adapter.core_schema.get("config")).to_json

    def load(self, data: bytes) -> Any:
        """The value. Raises Unfit."""
        try:
            return self._validate_json(data)
        except pydantic.ValidationError as error:
            raise _unfit(error) from None

    def dump(self, value: Any) -> bytes:
        """JSON of a value, checked. Raises Unfit."""
        try:
            valid = self._adapter.validate_python(value)
            # An instance is taken as it is; a field with a value of a wrong type shows up here, as a warning.
            return self._to_json(valid, by_alias=True, round_trip=True, warnings="error")
        except pydantic.ValidationError as error:
            raise _unfit(error) from None
        except PydanticSerializationError as error:
            raise Unfit((_WRITTEN_VALUE.sub("", " ".join(str(error).split())),)) from None


class MsgspecCodec:
    """msgspec's view of a type: strict, and fast; pydantic models within are pydantic's."""

    def __init__(self, of: Any) -> None:
        self._decoder = msgspec.json.Decoder(of, dec_hook=_read_model)

    def load(self, data: bytes) -> Any:
        """The value. Raises Unfit."""
        try:
            return self._decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unfit((_problem(error),)) from None

    def dump(self, value: Any) -> bytes:
        """JSON of a value, checked. Raises Unfit."""
        try:
            data = _encoder.encode(value)
            self._decoder.decode(data)
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Unfit((_problem(error),)) from None
        return data


def codec_of(of: Any) -> Codec:
    """The codec of a type.

    Raises:
        UsageError: neither pydantic nor msgspec can make JSON of it; the problem says so, the caller says of what.
    """
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        return _msgspec(of)
    try:
        adapter = _adapter(of)
    except pydantic.errors.PydanticUserError as error:
        # Structs somewhere inside, and typing.TypedDict before Python 3.12.
        return _msgspec(of, unless=_first_line(error))
    if not adapter.pydantic_complete:
        raise UsageError(f"{_name(of)} refers to a name that is not defined yet", "Define it before the task")
    return PydanticCodec(adapter)


def _adapter(of: Any) -> pydantic.TypeAdapter[Any]:
    try:
        return pydantic.TypeAdapter(of, config=BASE64)
    except pydantic.errors.PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        return pydantic.TypeAdapter(of)  # a model has its own config


def _msgspec(of: Any, unless: str = "it has parts of a type that JSON does not know") -> MsgspecCodec:
    try:
        if not _is_foreign(msgspec.inspect.type_info(of), set()):
            return MsgspecCodec(of)
    except (TypeError, NameError) as error:
        unless = _first_line(error)
    raise UsageError(f"{_name(of)} cannot be read from JSON: {unless}")


def _is_foreign(info: Any, seen: set[int]) -> bool:
    """Whether a type, as msgspec describes it, has a part that is neither msgspec's nor pydantic's."""
    if isinstance(info, msgspec.inspect.CustomType):
        return not issubclass(info.cls, pydantic.BaseModel)
    if isinstance(info, tuple):
        return any(_is_foreign(part, seen) for part in info)
    if not isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field) or id(info) in seen:
        return False
    seen.add(id(info))
    return any(_is_foreign(getattr(info, name), seen) for name in info.__struct_fields__)


def _read_model(of: type[Any], value: Any) -> Any:
    try:
        return of.model_validate(value)
    except pydantic.ValidationError as error:
        # msgspec says what str() of it says, which has the value.
        raise ValueError(str(_unfit(error))) from None


def _name(of: Any) -> str:
    return of.__qualname__ if isinstance(of, type) else str(of)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _unfit(error: pydantic.ValidationError) -> Unfit:
    if error.error_count() > _MAX_LISTED:
        return Unfit((f"{error.error_count()} errors, too many to say where",))
    details = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [_line(detail) for detail in details[:_MAX_ERRORS]]
    if len(details) > _MAX_ERRORS:
        lines.append(f"and {len(details) - _MAX_ERRORS} more")
    return Unfit(tuple(lines))


def _line(detail: ErrorDetails) -> str:
    # Names of fields, also of those that nobody knows, come from the payload.
    where = ".".join(_cut(str(part), _MAX_NAME) for part in detail["loc"])
    said = "Input tag is none of the expected ones" if detail["type"] == "union_tag_invalid" else detail["msg"]
    return _cut(f"{where}: {said}" if where else said, _MAX_LINE)


def _problem(error: Exception) -> str:
    """What msgspec says, without the value that it is about."""
    return _cut(_VALUE.sub(r"\1", str(error)), _MAX_LINE) or "too deeply nested"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


_decode_any: Final = msgspec.json.Decoder().decode


def dump_any(value: Any) -> bytes:
    """JSON of any value that has one, by what it is: JSON types, times, dataclasses, Structs, pydantic models.

    Raises:
        Unfit: it has none.
    """
    try:
        return _encoder.encode(value)
    except (msgspec.MsgspecError, PydanticSerializationError, TypeError, ValueError, OverflowError) as error:
        raise Unfit((_first_line(error),)) from None
    except RecursionError:
        raise Unfit(("it contains itself, or is too deeply nested",)) from None


def load_any(data: bytes) -> Any:
    """The value of a JSON text, as JSON types.

    Raises:
        Unfit: it is no JSON.
    """
    try:
        return _decode_any(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unfit((_problem(error),)) from None
