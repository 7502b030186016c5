"""A function that takes a list of payloads: each payload is one item of it, and each result one of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, NewType

import pydantic
import pytest

from fairlane.topics.errors import InvalidPayload, PayloadError, UsageError
from fairlane.topics.payload import Signature


class Order(pydantic.BaseModel):
    number: int


@dataclasses.dataclass
class Receipt:
    number: int


Paths = NewType("Paths", list[str])


class NotJson:
    """A class that nobody can write as JSON."""


def models(orders: list[Order]) -> list[Receipt]: ...  # type: ignore[empty-body]
def plain(counts: Sequence[dict[str, int]]) -> list[int | Exception] | None: ...
def numbers(numbers: list[int]) -> None: ...
def texts(texts: Iterable[str]) -> list[str | BaseException]: ...  # type: ignore[empty-body]
def raw(records: list[bytes]) -> list[Exception | None]: ...  # type: ignore[empty-body]
def named(paths: Annotated[Paths, "of files"]) -> list[ValueError]: ...  # type: ignore[empty-body]
def anything(items): ...  # type: ignore[no-untyped-def]
def bare(items: list) -> list: ...  # type: ignore[empty-body, type-arg]


@pytest.mark.parametrize(
    ("function", "item", "payload"),
    [
        (models, Order(number=7), b'{"number":7}'),
        (numbers, 7, b"7"),
        (texts, "é", '"é"'.encode()),
        (raw, b"\x00\xff", b"\x00\xff"),
        (named, "a.txt", b'"a.txt"'),
        (anything, {"a": [1]}, b'{"a":[1]}'),
        (bare, None, b"null"),
    ],
)
def test_a_payload_is_one_item_its_json_or_its_bytes(function: Callable[..., Any], item: Any, payload: bytes) -> None:
    signature = Signature.of_items(function)
    assert signature.dump([item], {}) == payload
    assert signature.load(payload) == ((item,), {})
    assert signature.content_type == ("application/octet-stream" if function is raw else "application/json")


def test_what_is_no_item_is_refused_before_it_is_sent_and_when_it_is_read() -> None:
    signature = Signature.of_items(models, task_type="place")
    for args, kwargs, says in [
        (([Order(number=1)],), {}, "instance of Order"),
        ((), {}, "one argument, item"),
        ((), {"orders": Order(number=1)}, "one argument, item"),
        ((Order(number=1), Order(number=2)), {}, "got 2 by position"),
    ]:
        with pytest.raises(PayloadError, match=says):
            signature.dump(args, kwargs)
    with pytest.raises(InvalidPayload, match="number"):
        signature.load(b"{}")


def test_a_result_is_that_of_one_item_and_exceptions_are_none() -> None:
    read = Signature.of_items(models)
    assert read.load_result(read.dump_result(Receipt(3))) == Receipt(3)
    of_texts = Signature.of_items(texts)
    assert of_texts.load_result(b'"x"') == "x"
    assert Signature.of_items(raw).load_result(b"null") is None
    assert Signature.of_items(bare).load_result(b'{"a":1}') == {"a": 1}


def two(a: list[int], b: list[int]) -> None: ...
def none() -> None: ...
def one_model(order: Order) -> None: ...
def by_name(*, orders: list[Order]) -> None: ...
def many(*orders: list[Order]) -> None: ...
def text(items: str) -> None: ...
def table(items: dict[str, int]) -> None: ...
def one_result(items: list[int]) -> int: ...  # type: ignore[empty-body]
def by_key(items: list[int]) -> dict[int, int]: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (two, "takes \\(a: 'list\\[int\\]', b"),
        (none, "takes \\(\\)"),
        (one_model, "items: list\\[Model\\]"),
        (by_name, "one parameter"),
        (many, "one parameter"),
        (text, "one parameter"),
        (table, "one parameter"),
        (one_result, "returns int.*Return None, or a list"),
        (by_key, "returns dict\\[int, int\\]"),
        (plain, "returns"),
    ],
)
def test_a_function_that_is_none_of_a_batch_is_refused_when_it_is_defined(
    function: Callable[..., Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        Signature.of_items(function, task_type="work")


def test_an_item_that_is_no_json_is_refused_when_it_is_defined() -> None:
    def work(items: list[Any]) -> None: ...

    work.__annotations__["items"] = list[NotJson]
    with pytest.raises(UsageError, match="parameter 'items' of task 'work'"):
        Signature.of_items(work)
