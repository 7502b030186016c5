"""A handler's signature as the shape of its payload: arguments to bytes on one side, bytes to arguments on the other.

Invariant: the payload follows from the signature alone, so that a client in any language can write it:

    no parameters            {}, or nothing at all
    one model                the model's JSON itself (pydantic model, dataclass, TypedDict, msgspec.Struct, or a union)
    one parameter of bytes   the value untouched
    anything else            an object with a field per parameter: with a default it may be missing, others may not be

Of a function that takes the payloads of many tasks as a list, each payload is one item of it: its JSON, or its bytes.
Never pickle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Final, Literal, NotRequired

import msgspec
import pydantic
from typing_extensions import TypedDict

from fairlane.topics.codec import BASE64, Codec, PydanticCodec, Unfit, codec_of, dump_any, load_any
from fairlane.topics.errors import InvalidPayload, InvalidResult, PayloadError, UsageError
from fairlane.topics.plain_calls import plain_calls

Shape = Literal["none", "model", "bytes", "object"]

_JSON_TYPES: Final = (Any, None, NoneType, bool, int, float, str, list, dict, object)
_EMPTY: Final = (b"{}", b"", b"null")
_LISTS: Final = (list, Sequence, Collection, Iterable)
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_ARGUMENTS: Final = pydantic.ConfigDict(extra="forbid", **BASE64)


class Signature:
    """How the arguments and the result of one function are bytes.

    Attributes:
        task_type: named in errors.
        shape: which of the four rules holds.
        content_type: media type of the payload.
    """

    __slots__ = ("_arguments", "_result", "content_type", "shape", "task_type")

    def __init__(self, task_type: str, shape: Shape, arguments: _Arguments, result: Codec | None) -> None:
        self.task_type = task_type
        self.shape = shape
        self.content_type = "application/octet-stream" if shape == "bytes" else "application/json"
        self._arguments = arguments
        self._result = result

    @classmethod
    def of(cls, function: Callable[..., Any], *, task_type: str = "") -> Signature:
        """Read a function's parameters and annotations.

        Args:
            function: `def` or `async def`.
            task_type: what errors call it; its own name where it is not given.

        Raises:
            UsageError: an annotation cannot be resolved, a type is no JSON, or it takes *args or **kwargs.
        """
        name = task_type or getattr(function, "__name__", str(function))
        hints = _hints(function, name)
        parameters = list(inspect.signature(function).parameters.values())
        for parameter in parameters:
            if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                raise UsageError(
                    f"task {name!r} takes {parameter}, which says nothing of its payload",
                    "Name its parameters, or take one dict or list by name",
                )
        types = {parameter.name: hints.get(parameter.name, Any) for parameter in parameters}
        result = _result_codec(hints.get("return", Any))
        if not parameters:
            return cls(name, "none", _NoArguments(), result)
        if len(parameters) == 1:
            only = types[parameters[0].name]
            if _plain(only) is bytes:
                return cls(name, "bytes", _OneArgument(parameters[0], None), result)
            if _is_model(only):
                return cls(name, "model", _OneArgument(parameters[0], _codec(name, parameters[0].name, only)), result)
        return cls(name, "object", _NamedArguments(name, parameters, types), result)

    @classmethod
    def of_items(cls, function: Callable[..., Any], *, task_type: str = "") -> Signature:
        """Read a function that takes a list of payloads, and returns nothing or a list with a result for each.

        The arguments of the signature are one item, and its result is that of one: what else the list may hold by its
        annotation, exceptions, are no results.

        Args:
            function: `def` or `async def`.
            task_type: what errors call it; its own name where it is not given.

        Raises:
            UsageError: it takes or returns something else, or an annotation is nothing that JSON can be.
        """
        name = task_type or getattr(function, "__name__", str(function))
        hints = _hints(function, name)
        parameters = list(inspect.signature(function).parameters.values())
        taken = [_item(hints.get(parameter.name, Any)) for parameter in parameters]
        if len(taken) != 1 or taken[0] is None or parameters[0].kind not in _POSITIONAL:
            raise UsageError(
                f"task {name!r} runs in batches and takes ({', '.join(map(str, parameters))})",
                "Give its function one parameter for the payloads of the batch: items: list[Model]",
            )
        returned = hints.get("return", Any)
        result = _item(returned) if returned is not NoneType else Any
        if result is None:
            raise UsageError(
                f"task {name!r} runs in batches and returns {_shown(returned)}",
                "Return None, or a list with a result or an exception for each payload, in order",
            )
        of = taken[0]
        is_bytes = _plain(of) is bytes
        item = inspect.Parameter("item", inspect.Parameter.POSITIONAL_ONLY)
        codec = None if is_bytes else _codec(name, parameters[0].name, of)
        shape: Shape = "bytes" if is_bytes else "model"
        return cls(name, shape, _OneArgument(item, codec), _result_codec(_without_errors(result)))

    def dump(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """The payload of a call.

        Raises:
            PayloadError: the arguments do not fit.
        """
        try:
            return self._arguments.dump(args, kwargs)
        except Unfit as error:
            raise PayloadError(str(error), task_type=self.task_type) from None

    def load(self, payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and keyword arguments of a payload.

        Raises:
            InvalidPayload: it does not fit. What a validator of the user's raises on its own comes through.
        """
        try:
            return self._arguments.load(payload)
        except Unfit as error:
            raise InvalidPayload(self.task_type, error.errors) from None

    def dump_result(self, value: Any) -> bytes:
        """JSON of what the function returned.

        Raises:
            InvalidResult: there is none.
        """
        if value is None:
            return b"null"
        if self._result is not None:
            # By the codec that will load it; what does not fit the annotation is still a result.
            with contextlib.suppress(Unfit):
                return self._result.dump(value)
        try:
            return dump_any(value)
        except Unfit as error:
            raise InvalidResult(self.task_type, type(value).__name__, str(error)) from None

    def load_result(self, data: bytes) -> Any:
        """What the function returned, of the type that it says it returns.

        Raises:
            InvalidResult: the JSON does not fit that type.
        """
        try:
            return load_any(data) if self._result is None else self._result.load(data)
        except Unfit as error:
            raise InvalidResult(self.task_type, "JSON", str(error)) from None


class _Arguments(typing.Protocol):
    def dump(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes: ...

    def load(self, payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]: ...


class _NoArguments:
    """`{}` and its like; a field that nobody takes is an error, as it is in a call."""

    def dump(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        if args or kwargs:
            raise Unfit((f"it takes no arguments, and got {len(args) + len(kwargs)}",))
        return b"{}"

    def load(self, payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if payload not in _EMPTY:
            value = load_any(payload)
            if value is not None and value != {}:
                raise Unfit(("it takes no arguments: the payload has to be {}",))
        return (), {}


class _OneArgument:
    """The payload is the argument: JSON of a codec, or bytes as they are."""

    def __init__(self, parameter: inspect.Parameter, codec: Codec | None) -> None:
        self._name = parameter.name
        self._by_position = parameter.kind in _POSITIONAL
        self._by_name = parameter.kind is not inspect.Parameter.POSITIONAL_ONLY
        self._optional = parameter.default is not inspect.Parameter.empty
        self._default = parameter.default
        self._codec = codec

    def dump(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        value = self._value(args, kwargs)
        if self._codec is not None:
            return self._codec.dump(value)
        if not isinstance(value, bytes | bytearray | memoryview):
            raise Unfit((f"{self._name}: it takes bytes (got {type(value).__name__})",))
        return bytes(value)

    def _value(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if len(args) == 1 and not kwargs and self._by_position:
            return args[0]
        if not args and len(kwargs) == 1 and self._by_name and self._name in kwargs:
            return kwargs[self._name]
        if not args and not kwargs and self._optional:
            return self._default
        raise Unfit((f"it takes one argument, {self._name}, and got {len(args)} by position and {sorted(kwargs)}",))

    def load(self, payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self._codec is None:
            value: Any = payload
        elif not payload and self._optional:
            return (), {}
        else:
            value = self._codec.load(payload)
        return ((value,), {}) if self._by_position else ((), {self._name: value})


class _NamedArguments:
    """An object with a field per parameter."""

    def __init__(self, task: str, parameters: Sequence[inspect.Parameter], types: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._names = [parameter.name for parameter in parameters if parameter.kind in _POSITIONAL]
        self._first = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_ONLY]
        self._names_of = {f"p{number}": parameter.name for number, parameter in enumerate(parameters)}
        try:
            self._codec = codec_of(_arguments_type(parameters, types))
        except UsageError:
            for parameter in parameters:
                _codec(task, parameter.name, types[parameter.name])
            raise
        self._is_pydantic = isinstance(self._codec, PydanticCodec)
        if not self._is_pydantic:
            # As a TypedDict msgspec would take any other field too.
            self._codec = _struct_codec(parameters, types)
        self._plain_calls = plain_calls(parameters, types)

    def dump(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        classes = tuple(map(type, args))
        plain = self._plain_calls.get((*kwargs, *classes, *map(type, kwargs.values())) if kwargs else classes)
        if plain is not None:
            try:
                return dump_any(plain(*args, *kwargs.values()))
            except Unfit:
                pass  # the codec says it better, or can do it
        if len(args) > len(self._names):
            raise Unfit((f"it takes {len(self._names)} arguments by position, and got {len(args)}",))
        given = dict(zip(self._names, args, strict=False))
        twice = given.keys() & kwargs.keys()
        if twice:
            raise Unfit((f"{min(twice)}: given by position and by name",))
        given.update(kwargs)
        return self._codec.dump(given)

    def load(self, payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        fields = self._codec.load(payload or b"{}")
        if self._is_pydantic:
            given = fields
        else:
            values = ((name, getattr(fields, field)) for field, name in self._names_of.items())
            given = {name: value for name, value in values if value is not msgspec.UNSET}
        if not self._first:
            return (), given
        first = tuple(given.pop(p.name, p.default) for p in self._parameters if p.name in self._first)
        return first, given


def _arguments_type(parameters: Sequence[inspect.Parameter], types: Mapping[str, Any]) -> Any:
    """The object as a TypedDict: what was not given is not there, and a parameter may have any name."""
    fields = {
        parameter.name: types[parameter.name]
        if parameter.default is inspect.Parameter.empty
        else NotRequired[types[parameter.name]]
        for parameter in parameters
    }
    make: Any = TypedDict
    payload = make("Payload", fields)
    payload.__pydantic_config__ = _ARGUMENTS
    return payload


def _struct_codec(parameters: Sequence[inspect.Parameter], types: Mapping[str, Any]) -> Codec:
    fields: list[Any] = []
    for number, parameter in enumerate(parameters):
        of = types[parameter.name]
        if parameter.default is inspect.Parameter.empty:
            fields.append((f"p{number}", of))
        else:
            fields.append((f"p{number}", of | msgspec.UnsetType, msgspec.UNSET))
    rename = {f"p{number}": parameter.name for number, parameter in enumerate(parameters)}
    return codec_of(msgspec.defstruct("Payload", fields, rename=rename, kw_only=True, forbid_unknown_fields=True))


def _codec(task: str, parameter: str, of: Any) -> Codec:
    try:
        return codec_of(of)
    except UsageError as error:
        raise UsageError(
            f"parameter {parameter!r} of task {task!r}: {error.problem}",
            error.hint or "Use JSON types, a pydantic model, a dataclass, a TypedDict or a msgspec.Struct",
        ) from None


def _result_codec(of: Any) -> Codec | None:
    """None where JSON types are all that is asked for, or where the type tells nothing that could be checked."""
    if of in _JSON_TYPES:
        return None
    try:
        return codec_of(of)
    except UsageError:
        return None


def _hints(function: Callable[..., Any], task: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise UsageError(
            f"an annotation of task {task!r} cannot be resolved: {error}",
            "Import or define the type at module level, not under TYPE_CHECKING and not in a function",
        ) from error


def _item(of: Any) -> Any:
    """What a list of this type holds; None where it is no list."""
    of = _plain(of)
    if of is Any or of in _LISTS:
        return Any
    return typing.get_args(of)[0] if typing.get_origin(of) in _LISTS else None


def _without_errors(of: Any) -> Any:
    """A type without the exceptions that it may be instead; Any where it is nothing else."""
    of = _plain(of)
    is_union = typing.get_origin(of) in (typing.Union, UnionType)
    members = typing.get_args(of) if is_union else (of,)
    results = tuple(each for each in members if not (isinstance(each, type) and issubclass(each, BaseException)))
    return typing.Union[results] if results else Any  # noqa: UP007 - made, not written


def _shown(of: Any) -> str:
    return of.__qualname__ if isinstance(of, type) and not typing.get_args(of) else str(of)


def _plain(of: Any) -> Any:
    """A type without Annotated, and what a NewType or a type alias stands for."""
    while True:
        if typing.get_origin(of) is typing.Annotated:
            of = of.__origin__
        elif hasattr(of, "__supertype__"):
            of = of.__supertype__
        elif type(of).__name__ == "TypeAliasType":
            of = of.__value__
        else:
            return of


def _is_model(of: Any) -> bool:
    of = _plain(of)
    origin = typing.get_origin(of)
    if origin is typing.Union or origin is UnionType:
        members = [member for member in typing.get_args(of) if member is not NoneType]
        return all(_is_model(member) for member in members)
    of = origin or of
    if not isinstance(of, type):
        return False
    return (
        dataclasses.is_dataclass(of) or typing.is_typeddict(of) or issubclass(of, pydantic.BaseModel | msgspec.Struct)
    )
