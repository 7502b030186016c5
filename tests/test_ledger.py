"""The settler's books: what is committed of each assignment, and that it never speaks of what is not in Kafka."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st
from worker_parts import P5, lease_of

from fairlane.consumer.delivery import Assigned
from fairlane.consumer.head_of_line import RECORDS, MapHead
from fairlane.consumer.ledger import Ledger, OffsetToCommit, Progress
from fairlane.topics.offset_map import OffsetMap, decode

P3 = Assigned("shop.p3", 0, 2)


def ledger(
    offsets: Sequence[int] = (),
    *,
    start: int = 0,
    end: int = 0,
    restored: OffsetMap | None = None,
    head_records: int = RECORDS,
) -> Ledger:
    """Books of `P5` in which these offsets were delivered."""
    made = Ledger(head_records)
    made.open(P5, start, end, restored)
    made.delivered(P5, list(offsets))
    return made


def commit(books: Ledger, *held: Assigned, apart: Sequence[int] = ()) -> dict[Assigned, OffsetMap]:
    """What a transaction commits, as the next owner reads it."""
    open_still = [(P5, offset) for offset in apart]
    offsets = books.to_commit(lease_of(*(held or (P5,))), open_still)
    books.committed(offsets, open_still)
    return {each.assigned: read(each) for each in offsets}


def read(committed: OffsetToCommit) -> OffsetMap:
    found = decode(committed.offset, committed.metadata)
    assert found is not None
    return found


def test_an_assignment_is_committed_once_at_its_beginning_so_that_its_owner_is_known() -> None:
    books = ledger(start=40)
    assert commit(books) == {P5: OffsetMap(40, 39)}
    assert not books.has_news
    assert commit(books) == {}


def test_what_is_finished_in_order_moves_the_watermark() -> None:
    books = ledger([0, 2, 5])
    books.finished(P5, [0])
    books.finished(P5, [2])
    assert commit(books)[P5].watermark == 5


def test_what_is_finished_out_of_order_is_in_the_map() -> None:
    books = ledger([0, 1, 2, 3])
    books.finished(P5, [1])
    books.finished(P5, [3])
    known = commit(books)[P5]
    assert (known.watermark, known.unfinished, known.highest_finished) == (0, (0, 2), 3)


def test_the_end_of_a_partition_is_committed_when_nothing_is_open() -> None:
    books = ledger([0, 1])
    books.finished(P5, [0])
    books.reached_end(P5, 9)
    assert commit(books)[P5].watermark == 1
    books.finished(P5, [1])
    assert commit(books)[P5].watermark == 9


def test_an_assignment_that_the_lease_does_not_hold_is_not_committed_and_stays_news() -> None:
    books = ledger([0])
    books.open(P3, 7, 7, None)
    assert set(commit(books, P3)) == {P3}
    assert books.has_news
    assert set(commit(books, P5)) == {P5}


def test_an_owner_that_leaves_in_order_says_so_last() -> None:
    books = ledger([0])
    assert not commit(books)[P5].clean
    books.leave([P5])
    assert commit(books)[P5].clean


def test_an_owner_that_leaves_before_the_suspects_are_settled_leaves_them_as_it_found_them() -> None:
    """Else suspicion would end with whoever did not get round to them, and a killer go on from worker to worker."""
    found = OffsetMap(0, -1, (), {1: 1})
    books = ledger([0, 1], end=2, restored=found)
    books.record_losses(P5, {0: 1, 1: 2})
    books.finished(P5, [0])
    books.leave([P5])
    left = commit(books)[P5]
    assert (left.watermark, left.clean, left.losses) == (1, False, {1: 1}), "it did not die, so its count is taken back"


def test_an_assignment_that_is_over_is_told_nothing_more() -> None:
    books = ledger([0])
    books.drop([P5])
    books.delivered(P5, [1])
    books.reached_end(P5, 2)
    books.leave([P5])
    assert not books.record_losses(P5, {0: 1})
    assert P5 not in books
    assert not books.has_news


def test_losses_are_committed_until_their_record_is_finished() -> None:
    books = ledger([0, 1])
    assert books.record_losses(P5, {0: 1, 1: 2})
    assert commit(books)[P5].losses == {0: 1, 1: 2}
    books.finished(P5, [0])
    assert commit(books)[P5].losses == {1: 2}


def test_losses_that_the_last_owner_left_are_kept() -> None:
    books = ledger(start=3, restored=OffsetMap(3, 2, (), {5: 2}))
    assert commit(books)[P5].losses == {5: 2}


def test_offsets_apart_are_open_in_the_map_that_is_committed() -> None:
    """A batch is halved to find what Kafka refuses: the other half is finished, and in no transaction yet."""
    books = ledger([0, 1, 2, 3])
    for offset in range(4):
        books.finished(P5, [offset])
    known = commit(books, apart=[2, 3])[P5]
    assert known.watermark == 2
    assert [known.finished(offset) for offset in range(4)] == [True, True, False, False]
    assert commit(books)[P5].watermark == 4, "there is more to say of it"


def test_an_offset_apart_below_the_watermark_holds_it_back() -> None:
    books = ledger([0, 1, 2, 3])
    for offset in range(4):
        books.finished(P5, [offset])
    known = commit(books, apart=[0])[P5]
    assert (known.watermark, known.unfinished, known.highest_finished) == (0, (0,), 3)


def test_an_offset_apart_stays_open_however_many_owners_hand_the_map_on() -> None:
    """The last one that was finished is apart: of no offset that is settled can the map say that it is the highest."""
    books = ledger([0, 1, 2])
    books.finished(P5, [1])
    books.finished(P5, [2])
    known = commit(books, apart=[2])[P5]
    for _owner in range(3):
        assert [known.finished(offset) for offset in range(3)] == [False, True, False]
        known = commit(ledger(start=known.watermark, end=3, restored=known))[P5]


def test_an_offset_apart_holds_back_an_end_that_was_reached() -> None:
    books = ledger([0])
    books.finished(P5, [0])
    books.reached_end(P5, 9)
    assert commit(books, apart=[0])[P5].watermark == 0
    assert commit(books)[P5].watermark == 9


def test_progress_starts_where_the_assignment_does() -> None:
    """From 0 it would look as if the map spanned the whole log, and a busy partition would be paused for it."""
    books = ledger([5_000_000], start=5_000_000)
    assert books.progress()[P5] == Progress(5_000_000, 0)
    books.finished(P5, [5_000_000])
    assert books.progress()[P5] == Progress(5_000_000, 1), "what is not committed yet is no progress of the watermark"
    commit(books)
    assert books.progress()[P5] == Progress(5_000_001, 1)


def test_a_head_that_holds_back_more_than_it_may_is_told_of_until_it_is_finished() -> None:
    books = ledger(range(12), head_records=10)
    for offset in range(1, 10):
        books.finished(P5, [offset])
    commit(books)
    assert books.heads == {}, "nine are not more than it may"
    books.finished(P5, [10])
    commit(books)
    assert books.heads == {P5: MapHead((0,), 10, 1)}
    books.finished(P5, [0])
    commit(books)
    assert books.heads == {}


def test_a_partition_that_left_is_held_back_by_nobody_here() -> None:
    leaves: tuple[Callable[[Ledger], None], ...] = (Ledger.drop_all, lambda books: books.drop([P5]))
    for leave in leaves:
        books = ledger(range(12), head_records=5)
        for offset in range(1, 12):
            books.finished(P5, [offset])
        commit(books)
        assert P5 in books.heads
        leave(books)
        assert books.heads == {}


STEP = st.tuples(st.sampled_from(["deliver", "finish", "commit", "apart", "end"]), st.integers(0, 999))


@given(st.lists(STEP, max_size=60))
def test_a_map_never_calls_finished_what_is_in_no_transaction(steps: list[tuple[str, int]]) -> None:
    """Whatever is delivered, finished and set apart: each commit speaks only of records in it or in an earlier one."""
    books = ledger()
    position = 0
    outstanding: list[int] = []
    waiting: list[int] = []
    written: set[int] = set()
    delivered: set[int] = set()

    def check(committed: dict[Assigned, OffsetMap]) -> None:
        for known in committed.values():
            # The next owner's first commit, before it has read anything, says no more than the one that it found.
            handed_on = commit(ledger(start=known.watermark, end=position, restored=known))[P5]
            for each in (known, handed_on):
                claimed = {offset for offset in delivered if each.finished(offset)}
                assert claimed <= written, f"{claimed - written} is in no transaction"

    for step, number in steps:
        match step:
            case "deliver":
                gap = number % 3
                offsets = [position + gap + each for each in range(1 + number % 4)]
                books.delivered(P5, offsets)
                outstanding += offsets
                delivered |= set(offsets)
                position = offsets[-1] + 1
            case "finish" if outstanding:
                offset = outstanding.pop(number % len(outstanding))
                books.finished(P5, [offset])
                waiting.append(offset)
            case "end":
                position += number % 3
                books.reached_end(P5, position)
            case "apart":
                # A part of what is finished goes into this transaction, the rest into a later one.
                cut = number % (len(waiting) + 1)
                first, apart = waiting[:cut], waiting[cut:]
                written |= set(first)
                check(commit(books, apart=apart))
                waiting = apart
            case "commit":
                written |= set(waiting)
                waiting = []
                check(commit(books))
    written |= set(waiting)
    last = commit(books)
    check(last)
    if last:
        assert all(last[P5].finished(offset) for offset in delivered - set(outstanding))
