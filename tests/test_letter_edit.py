"""Payloads of dead letters are changed as RFC 7396 says, and what is not named stays byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fairlane.monitor.edit import Edit, Unfit, edited, merged, with_payload
from fairlane.monitor.letter import Letter, letter_of
from fairlane.monitor.record import Record
from fairlane.topics.errors import UsageError


def a_letter(value: bytes, headers: tuple[tuple[str, bytes | None], ...] = (("ce_type", b"email"),)) -> Letter:
    return letter_of(Record("shop.dlq", 0, 0, 1, b"k", value, (*headers, ("fairlane-lane", b"shop.p3"))))


# RFC 7396, appendix A.
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
        ('{"a":"b"}', '{"a":null}', "{}"),
        ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
        ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
        ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
        ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
        ('["a","b"]', '["c","d"]', '["c","d"]'),
        ('{"a":"b"}', '["c"]', '["c"]'),
        ('{"a":"foo"}', "null", "null"),
        ('{"a":"foo"}', '"bar"', '"bar"'),
        ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
        ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
        ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
    ],
)
def test_a_merge_patch_does_what_its_standard_shows(target: str, patch: str, result: str) -> None:
    assert merged(target.encode(), patch.encode()) == result.encode()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


def by_the_standard(target: Any, patch: Any) -> Any:
    """The pseudo-code of RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = by_the_standard(result.get(name), value)
    return result


@given(values, values)
def test_any_patch_does_what_the_pseudo_code_of_the_standard_does(target: Any, patch: Any) -> None:
    found = merged(json.dumps(target).encode(), json.dumps(patch).encode())
    assert json.loads(found) == by_the_standard(target, patch)


def test_what_a_patch_does_not_name_stays_byte_for_byte() -> None:
    letter = a_letter(b'{"n": 1.10, "big": 123456789012345678901234567890, "to": "x"}')
    assert edited(letter, Edit("merge", '{"to":"y"}')) == b'{"n":1.10,"big":123456789012345678901234567890,"to":"y"}'


@pytest.mark.parametrize("patch", ["", "no", "[]", "1", "null", "{}", '{"a":'])
def test_a_patch_that_changes_nothing_or_is_none_is_refused(patch: str) -> None:
    with pytest.raises(UsageError, match="RFC 7396"):
        Edit("merge", patch)


def test_a_payload_that_is_no_json_cannot_be_merged_into_or_put_in() -> None:
    with pytest.raises(Unfit, match="nothing can be merged"):
        edited(a_letter(b"\xff"), Edit("merge", '{"a":1}'))
    with pytest.raises(Unfit, match="is no JSON"):
        edited(a_letter(b"{}"), Edit("payload", "{oops"))


def test_a_payload_of_another_media_type_may_be_any_text() -> None:
    letter = a_letter(b"x", (("ce_type", b"email"), ("content-type", b"text/plain")))
    assert edited(letter, Edit("payload", "{oops")) == b"{oops"


@pytest.mark.parametrize(
    ("value", "headers", "result"),
    [
        (b'{"a":1}', (("ce_type", b"t"),), b'{"a":2}'),
        (b'{"type":"t","payload":{"a":1},"id":"7"}', (), b'{"type":"t","payload":{"a":2},"id":"7"}'),
        (
            b'{"specversion":"1.0","type":"t","id":"7","source":"/s","data":{"a":1},"ext":1.50}',
            (("content-type", b"application/cloudevents+json"),),
            b'{"specversion":"1.0","type":"t","id":"7","source":"/s","data":{"a":2},"ext":1.50}',
        ),
    ],
)
def test_a_value_keeps_its_form_and_its_other_attributes(
    value: bytes, headers: tuple[tuple[str, bytes | None], ...], result: bytes
) -> None:
    letter = a_letter(value, headers)
    assert letter.payload == b'{"a":1}'
    assert with_payload(letter, edited(letter, Edit("merge", '{"a":2}'))) == result


def test_the_whole_value_of_a_record_that_is_no_task_is_put_right() -> None:
    letter = replace(a_letter(b'{"typ":"t"}', ()), reason="malformed")
    assert with_payload(letter, edited(letter, Edit("merge", '{"type":"t","typ":null}'))) == b'{"type":"t"}'
