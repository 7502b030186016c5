"""The payload follows from the signature: what each shape of function writes and reads, and what does not fit."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlane.topics.errors import InvalidPayload, InvalidResult, PayloadError, UsageError
from fairlane.topics.payload import Signature


class Address(pydantic.BaseModel):
    street: str
    number: Annotated[int, pydantic.Field(gt=0)] = 1


class Order(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)
    order_id: int = pydantic.Field(alias="orderId")
    to: Address
    made: datetime.datetime = pydantic.Field(default_factory=lambda: datetime.datetime.now(datetime.UTC))

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        return f"#{self.order_id}"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Pixel(typing.TypedDict):
    x: int
    tags: typing.NotRequired[list[str]]


class Packet(msgspec.Struct):
    x: int
    body: bytes = b""


UserId = typing.NewType("UserId", int)


def nothing() -> None: ...
def one_model(order: Order) -> None: ...
def one_model_or_none(order: Order | None) -> None: ...
def one_of_two(item: Point | Order) -> None: ...
def one_dataclass(point: Point) -> None: ...
def one_typed_dict(pixel: Pixel) -> None: ...
def one_struct(packet: Packet) -> None: ...
def one_bytes(data: bytes) -> None: ...
def one_plain(name: str) -> None: ...
def one_dict(data: dict[str, Any]) -> None: ...
def plain(name: str, times: int = 1, *, loud: bool = False) -> None: ...
def mixed(point: Point, data: bytes = b"", order: Order | None = None) -> None: ...
def with_struct(packet: Packet, times: int = 1) -> None: ...
def with_both(packet: Packet, to: Address) -> None: ...
def positional(a: int, b: int = 5, /, c: int = 7) -> None: ...
def awkward(json: int, copy: int, _x: int, model_config: int, self_: int) -> None: ...
def untyped(a, b=2):  # type: ignore[no-untyped-def]
    ...


ORDER = Order(orderId=3, to=Address(street="Elm"))


def call(signature: Signature, function: Callable[..., Any], payload: bytes) -> dict[str, Any]:
    """The arguments that the function gets for a payload, by name, defaults included."""
    args, kwargs = signature.load(payload)
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "payload"),
    [
        (nothing, (), {}, b"{}"),
        (one_dataclass, (Point(1, 2),), {}, b'{"x":1,"y":2}'),
        (one_dataclass, (), {"point": Point(1)}, b'{"x":1,"y":0}'),
        (one_typed_dict, ({"x": 1},), {}, b'{"x":1}'),
        (one_struct, (Packet(1, b"\xff\xfe"),), {}, b'{"x":1,"body":"//4="}'),
        (one_bytes, (b"\x00\xff",), {}, b"\x00\xff"),
        (one_model_or_none, (None,), {}, b"null"),
        (one_plain, ("ada",), {}, b'{"name":"ada"}'),
        (one_dict, ({"a": [1]},), {}, b'{"data":{"a":[1]}}'),
        (plain, ("ada", 2), {"loud": True}, b'{"name":"ada","times":2,"loud":true}'),
        (plain, (), {"name": "ada"}, b'{"name":"ada"}'),
        (mixed, (Point(1), b"\xff\xfe\xfb"), {}, b'{"point":{"x":1,"y":0},"data":"__77"}'),
        (with_struct, (Packet(1), 2), {}, b'{"packet":{"x":1,"body":""},"times":2}'),
        (
            with_both,
            (Packet(1), Address(street="E")),
            {},
            b'{"packet":{"x":1,"body":""},"to":{"street":"E","number":1}}',
        ),
        (positional, (1,), {"c": 2}, b'{"a":1,"c":2}'),
        (awkward, (1, 2, 3, 4, 5), {}, b'{"json":1,"copy":2,"_x":3,"model_config":4,"self_":5}'),
        (untyped, ([1],), {"b": None}, b'{"a":[1],"b":null}'),
    ],
)
def test_arguments_become_the_json_that_the_signature_says_and_come_back(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], payload: bytes
) -> None:
    signature = Signature.of(function)
    assert signature.dump(args, kwargs) == payload
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    assert call(signature, function, payload) == bound.arguments


def test_one_model_is_the_json_value_itself_by_its_aliases_and_with_what_it_made_itself() -> None:
    signature = Signature.of(one_model)
    payload = signature.dump((ORDER,), {})
    assert msgspec.json.decode(payload) == {
        "orderId": 3,
        "to": {"street": "Elm", "number": 1},
        "made": ORDER.made.isoformat().replace("+00:00", "Z"),
    }
    assert signature.load(payload) == ((ORDER,), {})


def test_a_union_of_models_is_the_json_value_too() -> None:
    signature = Signature.of(one_of_two)
    assert signature.shape == "model"
    assert signature.load(b'{"x":1}') == ((Point(1),), {})


def test_bytes_alone_are_the_value_untouched_with_their_own_media_type() -> None:
    assert Signature.of(one_bytes).content_type == "application/octet-stream"
    assert Signature.of(one_plain).content_type == "application/json"
    with pytest.raises(PayloadError, match="it takes bytes"):
        Signature.of(one_bytes).dump(("text",), {})


@pytest.mark.parametrize("empty", [b"", b"{}", b"null", b" { } "])
def test_no_parameters_take_any_way_of_saying_nothing(empty: bytes) -> None:
    assert Signature.of(nothing).load(empty) == ((), {})


def test_a_parameter_with_a_default_may_be_missing_and_the_default_is_that_of_the_worker() -> None:
    assert Signature.of(plain).load(b'{"name":"ada"}') == ((), {"name": "ada"})
    assert call(Signature.of(plain), plain, b'{"name":"ada"}') == {"name": "ada", "times": 1, "loud": False}
    assert call(Signature.of(untyped), untyped, b'{"a":1}') == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("function", "payload", "problems"),
    [
        (plain, b'{"times":"x","more":1}', ["name: Field required", "times: Input should be", "more: Extra inputs"]),
        (plain, b"{", ["Invalid JSON"]),
        (plain, b"\xff", ["Invalid JSON"]),
        (plain, b"", ["name: Field required"]),
        (plain, b"[]", ["object"]),
        (plain, b'{"name":' + b"[" * 100_000, ["recursion"]),
        (nothing, b'{"a":1}', ["takes no arguments"]),
        (nothing, b"{", ["truncated"]),
        (one_model, b'{"orderId":1,"to":{"street":"Elm","number":-3}}', ["to.number: Input should be greater than 0"]),
        (one_struct, b'{"x":"1"}', ["Expected `int`, got `str`"]),
        (one_struct, b'{"x":' + b"[" * 100_000, [""]),
        (one_typed_dict, b"{}", ["x"]),
        (with_struct, b'{"packet":{"x":1},"more":1}', ["unknown field `more`"]),
    ],
)
def test_a_payload_that_does_not_fit_says_every_error_and_where(
    function: Callable[..., Any], payload: bytes, problems: list[str]
) -> None:
    with pytest.raises(InvalidPayload) as caught:
        Signature.of(function).load(payload)
    assert function.__name__ in str(caught.value)
    for problem in problems:
        assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "problem"),
    [
        (nothing, (1,), {}, "takes no arguments"),
        (plain, (), {}, "name: Field required"),
        (plain, ("a", "b"), {}, "times: Input should be a valid integer"),
        (plain, ("a", 1, True), {}, "it takes 2 arguments by position, and got 3"),
        (plain, ("a",), {"name": "b"}, "name: given by position and by name"),
        (plain, ("a",), {"more": 1}, "more: Extra inputs"),
        (one_model, ({"orderId": "x"},), {}, "orderId: Input should be a valid integer"),
        (one_model, (), {}, "it takes one argument, order"),
        (one_model, (), {"other": 1}, "it takes one argument, order"),
        (one_dataclass, (Point("x"),), {}, "Expected `int`"),  # type: ignore[arg-type]
        (one_struct, (Packet("x"),), {}, "Expected `int`"),  # type: ignore[arg-type]
        (one_dict, ({"a": object()},), {}, "object"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], problem: str
) -> None:
    with pytest.raises(PayloadError, match=problem):
        Signature.of(function).dump(args, kwargs)


def test_an_error_list_is_bounded_and_shows_values_only_in_part() -> None:
    def many(numbers: list[int]) -> None: ...

    with pytest.raises(InvalidPayload) as caught:
        Signature.of(many).load(b'{"numbers":[' + b",".join([b'"' + b"x" * 5_000 + b'"'] * 50) + b"]}")
    assert len(caught.value.errors) == 21
    assert len(str(caught.value)) < 4_000


class Connection: ...


def bad_type(connection: Connection) -> None: ...
def bad_list(connections: list[Connection], packet: Packet) -> None: ...
def bad_name(order: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def bad_args(*orders: int) -> None: ...
def bad_kwargs(**orders: int) -> None: ...


class Unfinished(pydantic.BaseModel):
    later: Later  # type: ignore[name-defined]  # noqa: F821


def bad_model(unfinished: Unfinished) -> None: ...


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (bad_type, "parameter 'connection' of task 'bad_type': Connection cannot be read from JSON"),
        (bad_list, "parameter 'connections' of task 'bad_list'"),
        (bad_name, "an annotation of task 'bad_name' cannot be resolved: name 'Missing'"),
        (bad_args, r"takes \*orders"),
        (bad_kwargs, r"takes \*\*orders"),
        (bad_model, "not defined yet"),
    ],
)
def test_a_signature_that_no_payload_can_have_is_refused_when_the_task_is_defined(
    function: Callable[..., Any], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        Signature.of(function)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, b"null"),
        ("é", '"é"'.encode()),
        (3, b"3"),
        (2**70, b"1180591620717411303424"),
        ([1, {"a": True}], b'[1,{"a":true}]'),
        (Point(1), b'{"x":1,"y":0}'),
        ([Address(street="Elm")], b'[{"street":"Elm","number":1}]'),
        (b"\xff\xfe", b'"//4="'),
        (datetime.date(2026, 11, 24), b'"2026-11-24"'),
    ],
)
def test_a_result_is_json_by_what_it_is(value: Any, expected: bytes) -> None:
    assert Signature.of(nothing).dump_result(value) == expected


@pytest.mark.parametrize("value", [object(), {(1, 2): 3}, "\udce9", lambda: 1])
def test_a_result_that_is_no_json_says_so(value: Any) -> None:
    with pytest.raises(InvalidResult, match="the result of task 'nothing'"):
        Signature.of(nothing).dump_result(value)


def test_a_result_that_contains_itself_says_so() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidResult, match="contains itself"):
        Signature.of(nothing).dump_result(value)


async def place() -> Order:
    return ORDER


def total() -> int:
    return 3


def raw() -> bytes:
    return b"\xff"


def anything() -> Connection:
    return Connection()


def pixels() -> list[Packet]:
    return [Packet(1)]


def test_a_result_comes_back_as_the_type_that_the_function_says_it_returns() -> None:
    payload = Signature.of(place).dump_result(ORDER)
    assert Signature.of(place).load_result(payload) == ORDER
    assert Signature.of(total).load_result(b"3") == 3
    assert Signature.of(raw).load_result(Signature.of(raw).dump_result(b"\xff\xfe\xfb")) == b"\xff\xfe\xfb"
    assert Signature.of(anything).load_result(b'{"a":1}') == {"a": 1}
    assert Signature.of(pixels).load_result(b'[{"x":1}]') == [Packet(1)]
    with pytest.raises(InvalidResult):
        Signature.of(place).load_result(b"3")
    with pytest.raises(InvalidResult):
        Signature.of(total).load_result(b"{")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(json_values, json_values)
def test_json_arguments_come_back_as_they_were(a: Any, b: Any) -> None:
    signature = Signature.of(untyped)
    assert signature.load(signature.dump((a,), {"b": b})) == ((), {"a": a, "b": b})


@given(st.binary())
@pytest.mark.parametrize("function", [nothing, plain, one_model, one_struct, one_typed_dict, mixed, with_struct])
def test_any_bytes_are_arguments_or_an_invalid_payload(function: Callable[..., Any], payload: bytes) -> None:
    with contextlib.suppress(InvalidPayload):
        Signature.of(function).load(payload)


@given(
    st.integers(),
    st.text(st.characters(exclude_categories=[])),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.integers(2, 4),
)
def test_plain_arguments_are_the_same_by_position_and_by_name_in_any_order(
    number: int, text: str, share: float, flag: bool, given: int
) -> None:
    def handler(number: int, text: str, share: float = 1.0, flag: bool = False) -> None: ...

    signature = Signature.of(handler)
    values = {"number": number, "text": text, "share": share, "flag": flag}
    named = dict(list(values.items())[:given])
    try:
        payload = signature.dump(tuple(named.values()), {})
    except PayloadError:
        assert not text.isprintable()
        with pytest.raises(PayloadError):
            signature.dump((), named)
        return
    assert signature.load(payload) == ((), named)
    turned = dict(reversed(named.items()))
    assert signature.load(signature.dump((), named)) == signature.load(signature.dump((), turned)) == ((), named)


def test_an_argument_that_only_becomes_what_its_parameter_says_is_that_in_the_payload() -> None:
    def handler(number: int, share: float = 1.0, *, text: str = "") -> None: ...

    signature = Signature.of(handler)
    assert signature.dump(("5", 1), {}) == b'{"number":5,"share":1.0}'
    assert signature.dump((True,), {"text": "a"}) == b'{"number":1,"text":"a"}'
    assert signature.dump((), {"number": 5}) == signature.dump((5,), {}) == b'{"number":5}'
    for args, kwargs in (((), {}), (("x",), {}), ((1, 1.0, "a"), {}), ((1,), {"number": 1}), ((1,), {"more": "a"})):
        with pytest.raises(PayloadError):
            signature.dump(args, kwargs)
