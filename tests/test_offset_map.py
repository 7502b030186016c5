"""What a commit says beside its offset: the text of an offset map, whole, cut, foreign and damaged."""

from __future__ import annotations

import base64
import random
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import thorough

from fairlane.topics.offset_map import (
    MAX_LOSSES,
    MAX_SPAN,
    MAX_UNFINISHED,
    METADATA_MAX_BYTES,
    OffsetMap,
    decode,
    encode,
)


@st.composite
def maps(draw: st.DrawFn, *, unfinished: int = 60, gap: int = 2_000, losses: int = 6) -> OffsetMap:
    watermark = draw(st.integers(0, 2**62))
    offsets: list[int] = []
    for step in draw(st.lists(st.integers(0, gap), max_size=unfinished)):
        offsets.append((offsets[-1] + 1 if offsets else watermark) + step)
    highest = (offsets[-1] if offsets else watermark - 1) + draw(st.integers(0, gap))
    where = st.integers(watermark, highest + MAX_SPAN)
    lost = draw(st.dictionaries(where, st.integers(1, 300), max_size=losses))
    return OffsetMap(watermark, highest, tuple(offsets), lost, draw(st.booleans()))


@thorough(400)
@given(maps())
@example(OffsetMap(0, -1))
@example(OffsetMap(2**63 - 1, 2**63 - 2, (), {}, clean=True))
def test_what_is_encoded_is_decoded(known: OffsetMap) -> None:
    text = encode(known)
    assert text.isascii()
    assert decode(known.watermark, text) == known


@thorough(500)
@given(maps(), st.integers(-5, 2_500))
def test_finished_means_below_the_watermark_or_known_and_not_unfinished(known: OffsetMap, distance: int) -> None:
    offset = known.watermark + distance
    in_reach = known.watermark <= offset <= known.highest_finished
    assert known.finished(offset) == (distance < 0 or (in_reach and offset not in known.unfinished))


def full(seed: int, unfinished: int, span: int) -> OffsetMap:
    """A map with so many unfinished offsets spread over a span, and as many losses as there may be."""
    chance = random.Random(seed)
    offsets = sorted(chance.sample(range(span), unfinished))
    losses = dict.fromkeys(chance.sample(range(MAX_SPAN), MAX_LOSSES), 3)
    return OffsetMap(0, span, tuple(offsets), losses)


@thorough(150)
@given(st.integers(0, 2**32), st.integers(0, MAX_UNFINISHED), st.integers(MAX_UNFINISHED, 2**30))
@example(1, MAX_UNFINISHED, 2**30)  # the most there is to say
@example(2, MAX_UNFINISHED, 2**24)  # where varints of three bytes would be the worst
@example(3, MAX_UNFINISHED, MAX_SPAN)
def test_a_thousand_unfinished_offsets_fit_over_a_span_of_a_billion(seed: int, unfinished: int, span: int) -> None:
    known = full(seed, unfinished, span)
    text = encode(known)
    assert len(text) <= METADATA_MAX_BYTES
    assert decode(0, text) == known


@thorough(60)
@given(st.integers(0, 2**32), st.integers(0, MAX_SPAN))
@example(1, MAX_SPAN)  # all unfinished
@example(2, MAX_SPAN // 2)
@example(3, 0)
def test_a_span_of_twenty_thousand_fits_whatever_is_unfinished_in_it(seed: int, unfinished: int) -> None:
    known = full(seed, unfinished, MAX_SPAN)
    text = encode(known)
    assert len(text) <= METADATA_MAX_BYTES
    assert decode(0, text) == known


@pytest.mark.parametrize("losing", ["one far gap", "many near ones"])
def test_uneven_gaps_fit_as_well(losing: str) -> None:
    """The mean gap chooses the code; a few huge gaps among tiny ones must not break it."""
    huge = 1 if losing == "one far gap" else 500
    offsets, at = [], 0
    for number in range(MAX_UNFINISHED):
        at += 2**20 if number < huge else 1
        offsets.append(at)
    known = OffsetMap(0, at + 1, tuple(offsets))
    assert len(encode(known)) <= METADATA_MAX_BYTES
    assert decode(0, encode(known)) == known


@thorough(40)
@given(st.integers(0, 2**32), st.integers(1_000, 6_000), st.integers(6_000, 2**40))
def test_what_does_not_fit_is_cut_so_that_a_task_may_run_again_but_none_is_lost(
    seed: int, unfinished: int, span: int
) -> None:
    known = full(seed, unfinished, span)
    text = encode(known)
    assert len(text) <= METADATA_MAX_BYTES
    kept = decode(0, text)
    assert kept is not None
    assert not any(kept.finished(offset) for offset in known.unfinished)
    assert kept.unfinished == known.unfinished[: len(kept.unfinished)]
    assert kept.losses == known.losses


def test_of_too_many_losses_the_lowest_are_kept() -> None:
    losses = dict.fromkeys(range(100, 0, -1), 1)
    kept = decode(0, encode(OffsetMap(0, -1, (), losses)))
    assert kept is not None
    assert kept.losses == dict.fromkeys(range(1, MAX_LOSSES + 1), 1)


def test_an_idle_partition_says_it_in_a_few_characters() -> None:
    assert len(encode(OffsetMap(10**12, 10**12 - 1))) <= 20


@pytest.mark.parametrize(
    "text",
    [
        "",  # a commit without metadata
        "NO_METADATA",
        "bAAAAQAAAA==",  # somebody else's base64
        "{}",
        "fl1",
        "fl1:",
        "fl1:====",
        "fl1:AAAA",  # too short for a checksum
        "fl1:" + "A" * 200,
        "fl1:ä",
        "fl2:" + "A" * 20,  # a version to come
        "fl1:\ud800",
        "fl1:" + "A" * 5_000,
    ],
)
def test_foreign_text_is_no_map(text: str) -> None:
    assert decode(5, text) is None


def test_a_map_that_was_written_for_another_watermark_is_foreign() -> None:
    """Somebody reset the offsets and kept the metadata."""
    text = encode(OffsetMap(10, 12, (10,)))
    assert decode(10, text) is not None
    assert decode(11, text) is None
    assert decode(0, text) is None


@thorough(400)
@given(st.text() | st.text().map("fl1:".__add__) | st.binary().map(lambda raw: "fl1:" + base64.b64encode(raw).decode()))
def test_no_text_makes_decoding_raise(text: str) -> None:
    assert decode(0, text) is None


HUGE = b"\xff" * 10 + b"\x01"


@thorough(400)
@given(st.binary(max_size=60) | st.lists(st.just(HUGE) | st.binary(min_size=1, max_size=2), max_size=8).map(b"".join))
@example(b"\x00\x00" + HUGE + b"\x00\x00")  # a count that no list can have
@example(b"\x00\x00\x01" + HUGE + b"\x00\x80")  # bits without end
@example(b"\x00\x00\x00\x00" + HUGE)  # losses without end
@example(b"\x00\x00\x01\x00\x00\x80")  # unfinished above the highest finished
@example(b"")
def test_even_bytes_with_a_right_checksum_never_make_decoding_raise_or_lie_below_the_watermark(body: bytes) -> None:
    data = zlib.crc32(body, zlib.crc32(b"100")).to_bytes(4, "big") + body
    known = decode(100, "fl1:" + base64.b64encode(data).decode())
    if known is not None:
        assert list(known.unfinished) == sorted(set(known.unfinished))
        assert all(100 <= offset <= known.highest_finished for offset in known.unfinished)
        assert all(offset >= 100 for offset in known.losses)
        assert known.highest_finished >= 99


@thorough(400)
@given(maps(unfinished=20), st.data())
def test_damage_of_a_character_is_noticed(known: OffsetMap, data: st.DataObject) -> None:
    text = encode(known)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(min_codepoint=32, max_codepoint=126).filter(lambda char: char != text[place]))
    # In the last character before padding some bits say nothing: the same map from them is as good.
    assert decode(known.watermark, text[:place] + other + text[place + 1 :]) in (None, known)


@thorough(300)
@given(maps(unfinished=20), st.integers(0, 400))
def test_text_that_was_cut_off_is_no_map(known: OffsetMap, kept: int) -> None:
    text = encode(known)
    assert decode(known.watermark, text[: min(kept, len(text) - 1)]) is None


def test_a_map_that_speaks_of_offsets_past_the_logs_end_is_not_within_it() -> None:
    known = OffsetMap(10, 20, (10,), {25: 1})
    assert known.within(26)
    assert not known.within(25)
    assert not OffsetMap(10, 20).within(20)
    assert OffsetMap(10, 9).within(10)
    assert not OffsetMap(10, 9).within(9)
