"""Conditions on tasks: what they find in payloads and headers, and that no payload whatever makes them raise."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from properties import thorough

from fairlane.topics.condition import NOTHING, document_of, parse, resolve
from fairlane.topics.errors import UsageError

MAIL = b'{"to": "x@y", "amount": 1000, "tags": ["beta", 2], "a/b": {"m~n": [null, true]}, "": 7, "with space": "s"}'
HEADERS = [("tenant", b"acme"), ("tenant", b"other"), ("size", b"17"), ("raw", b"\xff"), ("none", None)]


def holds(text: str, payload: bytes = MAIL) -> bool:
    return parse(text).holds(document_of(payload), HEADERS)


@pytest.mark.parametrize(
    "text",
    [
        '/to = "x@y"',
        '/to != "z"',
        "/to != 7",
        '/to contains "@"',
        '/to < "y"',
        "/amount >= 1000",
        "/amount = 1000.0",
        "/amount < 1e9",
        "/amount <= 1000",
        "/amount > -1",
        '/tags contains "beta"',
        "/tags contains 2.0",
        "/tags/1 = 2",
        '/tags = ["beta", 2]',
        "/a~1b/m~0n/0 = null",
        "/a~1b/m~0n/1 = true",
        "/a~1b exists",
        '/a~1b contains "m~n"',
        "/ = 7",
        '"/with space" = "s"',
        '"" contains "to"',
        "header:tenant = other",
        'header:tenant = "other"',
        "header:tenant contains the",
        "header:tenant exists",
        "header:size > 9",
        "header:size = 17.0",
    ],
)
def test_what_is_so_holds(text: str) -> None:
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    [
        '/to = "X@Y"',
        "/amount = true",
        '/amount < "9"',
        "/to > 1",
        "/a~1b/m~0n/1 = 1",
        "/a~1b < 1",
        "/a~1b/m~0n/1 > false",
        "/amount contains 1",
        '/tags contains "bet"',
        "header:tenant = acme",
        "header:size > x",
        "header:tenant > 1",
        # What cannot be evaluated does not hold, whichever way it is asked.
        '/cc = "x"',
        '/cc != "x"',
        "/cc exists",
        "/tags/2 exists",
        "/tags/01 exists",
        "/tags/- exists",
        "/tags/-1 exists",
        "/to/0 exists",
        "header:none exists",
        "header:raw exists",
        "header:Tenant exists",
        "header:tenant != 5",
    ],
)
def test_what_is_not_so_or_cannot_be_evaluated_does_not(text: str) -> None:
    assert not holds(text)


@pytest.mark.parametrize("payload", [b"", b"\xff", b"{", b"[" * 100_000, b'{"a":1}x', b"x" * 9])
def test_a_payload_that_is_no_json_has_nothing(payload: bytes) -> None:
    assert not holds('"" exists', payload)
    assert not holds("/a != 1", payload)
    assert holds("header:tenant = other", payload)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/to",
        "/to =",
        "/to exists 7",
        "/to == 7",
        '/to="x@y"',
        "/to = x@y",
        "to = 7",
        "header: = 7",
        "/a~2 = 7",
        "/a~ = 7",
        "/a = " + "7" * 500,
        '"/a = 7',
        "/a = " + "[" * 200,
    ],
)
def test_what_is_no_condition_is_refused_and_says_what_is(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(text)
    assert raised.value.hint


def test_a_condition_ends_where_the_depth_of_its_literal_does() -> None:
    deep = "[" * 200 + "]" * 200
    assert parse(f"/a = {deep}").holds(document_of(b'{"a":' + deep.encode() + b"}"), ())


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def places(value: Any, pointer: str = "") -> list[tuple[str, Any]]:
    """Every value in a document, by its pointer as RFC 6901 writes it."""
    found = [(pointer, value)]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found += places(inner, f"{pointer}/{number}")
    return found


@given(values, st.data())
@thorough(300)
def test_every_value_is_found_by_its_pointer_and_is_equal_to_itself(document: Any, data: st.DataObject) -> None:
    pointer, value = data.draw(st.sampled_from(places(document)))
    payload = msgspec.json.encode(document)
    text = f"{json.dumps(pointer)} = {json.dumps(value)}"
    assume(len(text) < 500)
    assert parse(text).holds(document_of(payload), ())
    assert not parse(f"{json.dumps(pointer)} != {json.dumps(value)}").holds(document_of(payload), ())
    assert parse(f"{json.dumps(pointer)} exists").holds(document_of(payload), ())


@given(values, values, st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "contains"]))
@thorough(300)
def test_comparisons_agree_with_each_other(found: Any, literal: Any, comparison: str) -> None:
    assume(len(json.dumps(literal)) < 400)
    document = document_of(msgspec.json.encode({"a": found}))

    def is_so(how: str) -> bool:
        return parse(f"/a {how} {json.dumps(literal)}").holds(document, ())

    assert is_so("=") is not is_so("!=")
    ordered = [is_so("<"), is_so("="), is_so(">")]
    if is_so("<=") or is_so(">="):
        assert sum(ordered) == 1
        assert is_so("<=") is (ordered[0] or ordered[1])
        assert is_so(">=") is (ordered[2] or ordered[1])
    else:
        assert not any(ordered[::2])
    assert is_so(comparison) in (True, False)


@given(st.binary(max_size=60), st.text(max_size=40), st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=4))))
@thorough(300)
def test_nothing_makes_it_raise_but_a_text_that_is_no_condition(
    payload: bytes, text: str, headers: list[tuple[str, bytes]]
) -> None:
    try:
        condition = parse(text)
    except UsageError:
        return
    assert condition.holds(document_of(payload), headers) in (True, False)


@given(values, st.lists(st.text(max_size=3), max_size=4))
@thorough(200)
def test_a_pointer_finds_what_a_walk_finds(document: Any, tokens: list[str]) -> None:
    pointer = "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens)
    expected = dict(places(document)).get(pointer, NOTHING)
    assert resolve(document, tokens) == expected
