"""Where a task waits until it is due: tables, and whole lives of delayed tasks on virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import thorough

from fairlane.consumer.tiers import Accept, Hop, Wait, hold_limit_ms, nap_ms, read_decision, snap
from fairlane.topics.errors import UsageError
from fairlane.topics.names import DEFAULT_TIERS, Tier
from fairlane.topics.routing import tier_for

S1, S5, M1, M10, H2, D1 = DEFAULT_TIERS
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


@pytest.mark.parametrize(
    ("remaining_ms", "tier"),
    [
        (1, S1),  # short: the smallest tier is its durable place, it waits in memory
        (1_500, S1),
        (4_999, S1),
        (5_000, S5),  # the hold limit
        (59_999, S5),
        (60_000, M1),
        (2 * HOUR - 1, M10),
        (2 * HOUR, H2),
        (400 * DAY, D1),  # again and again
    ],
)
def test_a_remaining_delay_goes_to_the_largest_tier_not_longer_than_it(remaining_ms: int, tier: Tier) -> None:
    assert tier_for(remaining_ms, DEFAULT_TIERS) == tier


NOW = 10**12


@pytest.mark.parametrize(
    ("tier", "waited_ms", "remaining_ms", "decision"),
    [
        (S1, 0, -1, Accept()),  # overdue
        (S1, 0, 4_999, Accept()),  # waits in memory, whatever the tier's delay
        (S1, 0, 5_000, Hop(S5)),  # the smallest tier is read through: what does not fit memory moves on
        (S1, 0, DAY, Hop(D1)),
        (S5, 0, 4_999, Accept()),
        (S5, 0, 5_000, Wait(NOW + 4_000)),  # a second before its time, the rest is exact
        (S5, 3_999, 30_000, Wait(NOW + 1)),
        (S5, 4_000, 30_000, Hop(S5)),  # the same again
        (M1, 59_000, 61_000, Hop(M1)),
        (M1, 59_000, 59_000, Hop(S5)),
        (D1, DAY - SECOND, 100 * DAY, Hop(D1)),
        (D1, 0, 100 * DAY, Wait(NOW + DAY - SECOND)),
        (H2, -30_000, 2 * HOUR, Wait(NOW + 2 * HOUR - SECOND)),  # the broker's clock runs ahead: not late for that
    ],
)
def test_a_record_of_a_tier_is_accepted_moved_on_or_left_until_its_time(
    tier: Tier, waited_ms: int, remaining_ms: int, decision: Accept | Hop | Wait
) -> None:
    assert read_decision(tier, NOW - waited_ms, NOW + remaining_ms, NOW, DEFAULT_TIERS) == decision


def test_the_end_of_a_larger_tier_is_left_alone_for_a_while_its_next_record_waits_for_longer() -> None:
    assert [nap_ms(tier, DEFAULT_TIERS) for tier in DEFAULT_TIERS] == [0, 2_000, 2_000, 2_000, 2_000, 2_000]
    short = [Tier.parse(name) for name in ("1s", "2s", "3s", "4s")]
    assert [nap_ms(tier, short) for tier in short] == [0, 0, 1_000, 1_500], "short ones are not worth the stop"
    assert nap_ms(D1, [D1]) == 0, "a queue's only tier holds what is due at any time"


def test_with_one_tier_all_that_is_delayed_waits_in_memory() -> None:
    assert tier_for(DAY, [S5]) == S5
    assert read_decision(S5, NOW, NOW + DAY, NOW, [S5]) == Accept()
    assert snap(DAY, [S5]) == DAY


def test_without_a_tier_there_is_no_place_for_a_delay() -> None:
    with pytest.raises(UsageError, match="tier"):
        hold_limit_ms([])


@pytest.mark.parametrize(
    ("delay_ms", "snapped_ms"),
    [
        (0, 0),
        (4_999, 4_999),  # exact in memory
        (5_000, 5_000),
        (5_001, 60_000),  # never less than asked
        (60_000, 60_000),
        (HOUR, 2 * HOUR),
        (DAY, DAY),
        (DAY + 1, DAY + 1),  # beyond the largest: several hops in any case
    ],
)
def test_a_delay_snaps_to_the_next_tier_so_that_a_retry_is_one_hop(delay_ms: int, snapped_ms: int) -> None:
    assert snap(delay_ms, DEFAULT_TIERS) == snapped_ms


tier_sets = st.lists(st.integers(1, 2 * DAY), min_size=1, max_size=7, unique=True).map(
    lambda delays: tuple(Tier(delay_ms, f"{delay_ms}ms") for delay_ms in sorted(delays))
)


def most_hops(delay_ms: int, tiers: tuple[Tier, ...]) -> int:
    """The bound of the docstring: visits of each tier but the smallest, which is passed through at most once."""
    hops = 1
    for number, tier in enumerate(tiers[1:], start=1):
        upper = min(delay_ms, tiers[number + 1].delay_ms) if number + 1 < len(tiers) else delay_ms
        if upper >= tier.delay_ms:
            lookahead = min(SECOND, tier.delay_ms // 2)
            hops += 1 + (upper - tier.delay_ms) // (tier.delay_ms - lookahead)
    return hops


def live(
    delay_ms: int, tiers: tuple[Tier, ...], first: Tier | None, late_ms: list[int]
) -> tuple[int, list[tuple[Tier, int]]]:
    """Play a task from its enqueueing to its acceptance; returns when that was and what it hopped to when."""
    now_ms, turn = NOW, 0

    def late() -> int:
        nonlocal turn
        turn += 1
        return late_ms[turn % len(late_ms)] if late_ms else 0

    tier = first or tier_for(delay_ms, tiers)
    appended_ms = now_ms
    visits = [(tier, now_ms)]
    while True:
        decision = read_decision(tier, appended_ms, NOW + delay_ms, now_ms, tiers)
        if isinstance(decision, Accept):
            return now_ms, visits
        if isinstance(decision, Wait):
            assert decision.until_ms > now_ms, "a loop without waiting"
            now_ms = decision.until_ms + late()
        else:
            tier, appended_ms = decision.tier, now_ms
            visits.append((tier, now_ms))
        assert len(visits) < 10**6


DELAYS = st.integers(1, 10 * MINUTE) | st.integers(1, 365 * DAY)


@thorough(400)
@given(DELAYS, tier_sets | st.just(DEFAULT_TIERS), st.lists(st.integers(0, 2_000), max_size=5), st.data())
@example(5_000, DEFAULT_TIERS, [], None)
@example(365 * DAY, DEFAULT_TIERS, [], None)
@example(2, (Tier(1, "1ms"), Tier(2, "2ms")), [], None)
def test_every_delay_ends_in_time_after_few_hops_with_a_wait_between_them(
    delay_ms: int, tiers: tuple[Tier, ...], late_ms: list[int], data: st.DataObject | None
) -> None:
    """From a millisecond to a year, with any tiers, readers that come late, and any tier to begin in."""
    largest = tiers[-1].delay_ms
    if len(tiers) > 1 and delay_ms // largest > 2_000:
        delay_ms = largest * 2_000 + delay_ms % largest  # a year of a tier of milliseconds takes too long to play
    first = data.draw(st.sampled_from([None, *tiers])) if data is not None else None
    accepted_ms, visits = live(delay_ms, tiers, first, late_ms)

    due_ms = NOW + delay_ms
    hold_ms = tiers[1].delay_ms if len(tiers) > 1 else delay_ms + 1
    assert due_ms - accepted_ms < hold_ms, "more waits in memory than may"
    if first is None or first.delay_ms <= delay_ms or first == tiers[0]:
        assert accepted_ms <= max(due_ms, NOW) + max(late_ms, default=0), "late by more than its readers were"
    if first is None:
        assert len(visits) <= most_hops(delay_ms, tiers)
    for (tier, since_ms), (_, moved_ms) in pairwise(visits):
        assert (
            tier == tiers[0]
            or moved_ms - since_ms >= tier.delay_ms - min(SECOND, tier.delay_ms // 2)
            or (due_ms - moved_ms <= SECOND)
        )
    assert [tier for tier, _ in visits[1:]].count(tiers[0]) == 0, "goes round the smallest tier"


@thorough(500)
@given(st.integers(0, 2 * DAY), tier_sets)
def test_a_snapped_delay_is_not_shorter_and_takes_one_tier(delay_ms: int, tiers: tuple[Tier, ...]) -> None:
    snapped_ms = snap(delay_ms, tiers)
    assert snapped_ms >= delay_ms
    if 0 < snapped_ms <= tiers[-1].delay_ms:
        _, visits = live(snapped_ms, tiers, None, [])
        if len(tiers) == 1 or tiers[1].delay_ms >= 2 * SECOND:
            assert len(visits) == 1


@pytest.mark.parametrize(
    ("delay_ms", "visits"),
    [
        (SECOND, 1),
        (5 * SECOND, 1),
        (MINUTE, 1),
        (DAY, 1),
        (30 * SECOND, 7),  # 5 s seven times, each read a second early
        (90 * SECOND, 8),
    ],
)
def test_how_many_tiers_a_delay_goes_through(delay_ms: int, visits: int) -> None:
    assert len(live(delay_ms, DEFAULT_TIERS, None, [])[1]) == visits


def test_a_year_takes_as_many_tiers_as_the_docstring_says() -> None:
    _, visits = live(365 * DAY + 1, DEFAULT_TIERS, None, [])
    largest = sum(tier == D1 for tier, _ in visits)
    assert largest <= 366
    assert len(visits) - largest <= 49
