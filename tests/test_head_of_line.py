"""The detector of the head of line: when one task holds back its partition, when it is an outage, when to say so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from properties import thorough

from fairlane.consumer.head_of_line import (
    LISTED_MAX,
    RECORDS,
    TELL_FIRST_MS,
    TELL_MAX_MS,
    Head,
    HeadsOfLine,
    MapHead,
    Verdict,
    map_head,
)
from fairlane.topics.offset_map import MAX_SPAN, OffsetMap

PATIENCE_MS = 5_000


def known(finished: int, unfinished: int = 1) -> OffsetMap:
    """A map whose first offsets are unfinished and all others finished."""
    return OffsetMap(100, 100 + unfinished + finished - 1, tuple(range(100, 100 + unfinished)))


@pytest.mark.parametrize(
    ("finished", "unfinished", "verdict"),
    [
        (RECORDS - 1, 1, None),  # one fewer than it may hold back
        (RECORDS, 1, Verdict.HOLDING_BACK),
        (MAX_SPAN * 50, 1, Verdict.HOLDING_BACK),  # for how long and how much ever
        (RECORDS, 367, Verdict.HOLDING_BACK),  # 2 % of 18,367 are 367
        (RECORDS, 368, Verdict.OUTAGE),
        (MAX_SPAN, 1_000, Verdict.OUTAGE),  # full by both bounds: the partition waits, and rightly so
    ],
)
def test_a_verdict_follows_from_what_is_held_back_and_from_the_share_that_is_finished(
    finished: int, unfinished: int, verdict: Verdict | None
) -> None:
    held = map_head(known(finished, unfinished), RECORDS)
    assert (held.verdict if held is not None else None) is verdict


def test_one_unfinished_record_is_never_an_outage_however_little_it_may_hold_back() -> None:
    held = map_head(known(3), 3)
    assert held is not None
    assert held.verdict is Verdict.HOLDING_BACK


def test_by_default_a_head_is_seen_before_the_span_of_its_map_is_full() -> None:
    assert RECORDS < MAX_SPAN


@thorough(300)
@given(st.sets(st.integers(0, 400), min_size=1), st.data())
def test_what_is_held_back_is_what_a_count_of_every_offset_says(delivered: set[int], data: st.DataObject) -> None:
    finished = data.draw(st.sets(st.sampled_from(sorted(delivered))))
    records = data.draw(st.integers(1, 50))
    highest, open_still = max(finished, default=-1), sorted(delivered - finished)
    watermark = min(open_still, default=highest + 1)
    unfinished = tuple(offset for offset in open_still if offset < highest)
    held = map_head(OffsetMap(watermark, max(highest, watermark - 1), unfinished), records)
    behind = [offset for offset in range(watermark, highest + 1) if offset not in unfinished]
    if not unfinished or len(behind) < records:
        assert held is None
        return
    assert held is not None
    assert (held.finished, held.unfinished) == (len(behind), len(unfinished))
    assert held.offsets == tuple(offset for offset in unfinished if highest - offset >= records)[:LISTED_MAX]
    assert held.offsets[0] == watermark


class Watching(RuleBasedStateMachine):
    """Two partitions whose heads change, looked at again and again; the model remembers all looks and counts anew."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: HeadsOfLine[str] = HeadsOfLine(PATIENCE_MS)
        self.now_ms = 0
        self.looks: list[tuple[int, dict[str, MapHead]]] = []
        self.told: dict[str, list[tuple[int, object]]] = {}

    @rule(
        after_ms=st.sampled_from([1, 1_000, 4_999, 5_000, 60_000, 600_000]),
        held=st.dictionaries(
            st.sampled_from(["p3/0", "p3/1"]),
            st.tuples(st.integers(0, 3), st.integers(1, 4)).map(
                lambda drawn: MapHead(tuple(range(drawn[0], drawn[0] + drawn[1])), 100, 3 * (drawn[1] % 2) + 1)
            ),
        ),
    )
    def look(self, after_ms: int, held: dict[str, MapHead]) -> None:
        self.now_ms += after_ms
        self.looks.append((self.now_ms, held))
        for partition in [gone for gone in self.told if gone not in held]:
            del self.told[partition]
        heads = {head.partition: head for head in self.heads.look(held, self.now_ms)}
        assert heads.keys() <= held.keys()
        for partition, each in held.items():
            patient = tuple(
                offset for offset in each.offsets if self.now_ms - self.since_ms(partition, offset) >= PATIENCE_MS
            )
            if each.offsets[0] not in patient:
                assert partition not in heads
                continue
            head = heads[partition]
            assert head.offsets == patient
            assert head.since_ms == self.since_ms(partition, patient[0])
            assert (head.finished, head.unfinished, head.verdict) == (each.finished, each.unfinished, each.verdict)
            self.check_telling(head)

    def since_ms(self, partition: str, offset: int) -> int:
        """The first of the looks, without a gap until now, that saw the offset hold back."""
        since_ms = self.now_ms
        for at_ms, held in reversed(self.looks):
            if partition not in held or offset not in held[partition].offsets:
                break
            since_ms = at_ms
        return since_ms

    def check_telling(self, head: Head[str]) -> None:
        told = self.told.setdefault(head.partition, [])
        what = Verdict.OUTAGE if head.verdict is Verdict.OUTAGE else head.offsets[0]
        same = 0
        for _, before in reversed(told):
            if before != what:
                break
            same += 1
        if not told:
            due = True
        elif same:
            due = self.now_ms - told[-1][0] >= min(TELL_FIRST_MS * 2 ** (same - 1), TELL_MAX_MS)
        else:
            due = self.now_ms - told[-1][0] >= TELL_FIRST_MS
        assert head.tell is due
        if due:
            told.append((self.now_ms, what))


Watching.TestCase.settings = thorough(100, steps=30)
test_patience_and_telling_are_those_of_the_model = Watching.TestCase
