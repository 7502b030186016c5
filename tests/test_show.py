"""Text for terminals: what others wrote can do nothing, and times read as people say them."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlane.monitor.show import age, duration, hex_dump, json_text, payload_text, seconds, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 完了 👩\u200d💻 ✔️", "plain ünïcode 完了 👩\u200d💻 ✔️"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),  # one byte that begins a sequence on 8-bit terminals
        ("gnp.exe\u202etxt", r"gnp.exe\u202etxt"),  # text that runs backwards
        ("a\u200bb\U000e0041", r"a\u200bb\U000e0041"),  # text that is not seen
        ("one\ntwo\tthree\r", r"one\ntwo\tthree\r"),
        ("\ud800", r"\ud800"),
        ("[red]no markup[/red]", "[red]no markup[/red]"),
    ],
)
def test_what_a_terminal_would_act_on_is_shown_by_its_code(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_lines_stay_where_lines_are_wanted() -> None:
    assert visible("one\n\ttwo\r\x1b", lines=True) == "one\n\ttwo\\x0d\\x1b".replace("\\x0d", "\\r")


@given(st.text())
def test_no_control_character_is_left_in_any_text(text: str) -> None:
    assert not [character for character in visible(text) if unicodedata.category(character) in ("Cc", "Cs")]


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(), st.lists, max_leaves=5))
def test_json_stays_the_same_json_without_control_characters(value: object) -> None:
    text = json_text(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) if _utf8(value) else "null"
    assert not [character for character in text if unicodedata.category(character) == "Cc" and character != "\n"]
    if _utf8(value):
        assert json.loads(text) == value


def _utf8(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def test_numbers_of_a_payload_stay_as_they_were_written() -> None:
    assert json_text(b'{"price":1.10,"id":12345678901234567890123}') == (
        '{\n  "price": 1.10,\n  "id": 12345678901234567890123\n}'
    )


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b'{"a":1}', '{\n  "a": 1\n}'),
        (b"plain\ntext", "plain\ntext"),
        (b"", "(empty)"),
        (b"\xff\x00A", "00000000  ff 00 41                                         ..A"),
    ],
)
def test_a_payload_is_shown_as_json_text_or_hex(raw: bytes, shown: str) -> None:
    assert payload_text(raw) == shown


def test_a_hex_dump_has_sixteen_bytes_a_line() -> None:
    lines = hex_dump(bytes(range(40))).split("\n")
    assert [line[:8] for line in lines] == ["00000000", "00000010", "00000020"]


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0ms"),
        (0.4, "0.4ms"),
        (35.2, "35ms"),
        (1_234, "1.2s"),
        (60_000, "1m"),
        (125_000, "2m 5s"),
        (3_600_000, "1h"),
        (12_000_000, "3h 20m"),
        (356_400_000, "4d 3h"),
    ],
)
def test_durations_have_two_units_at_most(ms: float, text: str) -> None:
    assert duration(ms) == text


@pytest.mark.parametrize(("ms", "text"), [(-5, "0s"), (999, "0s"), (59_999, "59s"), (61_000, "1m 1s")])
def test_ages_are_whole_seconds(ms: float, text: str) -> None:
    assert age(ms) == text


@pytest.mark.parametrize(("value_s", "text"), [(0, "0.0s"), (0.0123, "0.012s"), (1.24, "1.2s"), (75, "75.0s")])
def test_process_times_are_as_the_contract_has_them(value_s: float, text: str) -> None:
    assert seconds(value_s) == text
