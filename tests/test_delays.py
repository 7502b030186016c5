"""Tasks that wait in memory: never early, in due order."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from properties import thorough

from fairlane.consumer.delays import DelayHeap


def test_what_is_due_leaves_in_due_order_and_then_in_order_of_arrival() -> None:
    heap: DelayHeap[str] = DelayHeap()
    for due_ms, item in ((30, "late"), (10, "first"), (20, "second"), (20, "third")):
        heap.push(due_ms, item)
    assert heap.next_due_ms == 10
    assert heap.due(9) == []
    assert heap.due(20) == ["first", "second", "third"]
    assert (heap.next_due_ms, len(heap)) == (30, 1)


def test_an_empty_heap_has_nothing_due() -> None:
    heap: DelayHeap[str] = DelayHeap()
    assert (heap.next_due_ms, heap.due(10**15), len(heap)) == (None, [], 0)


def test_discarded_items_are_returned_in_due_order_and_the_rest_stays() -> None:
    heap: DelayHeap[str] = DelayHeap()
    for due_ms, item in ((3, "c gone"), (1, "a gone"), (2, "b"), (1, "d gone"), (4, "e")):
        heap.push(due_ms, item)
    assert heap.discard(lambda item: "gone" in item) == ["a gone", "d gone", "c gone"]
    assert heap.discard(lambda item: "gone" in item) == []
    assert heap.due(9) == ["b", "e"]


def test_items_need_no_order_of_their_own() -> None:
    heap: DelayHeap[object] = DelayHeap()
    items = [object(), object()]
    for item in items:
        heap.push(1, item)
    assert heap.due(1) == items


STEPS = st.one_of(
    st.tuples(st.just("push"), st.integers(0, 50)),
    st.tuples(st.just("due"), st.integers(0, 20)),
    st.tuples(st.just("discard"), st.integers(1, 4)),
)


def divisible_by(value: int) -> Callable[[tuple[int, int]], bool]:
    return lambda item: item[1] % value == 0


@thorough(400)
@given(st.lists(STEPS, max_size=60))
def test_it_does_what_a_sorted_list_would(steps: list[tuple[str, int]]) -> None:
    heap: DelayHeap[tuple[int, int]] = DelayHeap()
    waiting: list[tuple[int, int]] = []
    now_ms = 0
    for number, (step, value) in enumerate(steps):
        if step == "push":
            heap.push(now_ms + value, (now_ms + value, number))
            waiting.append((now_ms + value, number))
            waiting.sort()
        elif step == "due":
            now_ms += value
            assert heap.due(now_ms) == [item for item in waiting if item[0] <= now_ms]
            waiting = [item for item in waiting if item[0] > now_ms]
        else:
            gone = [item for item in waiting if item[1] % value == 0]
            assert heap.discard(divisible_by(value)) == gone
            waiting = [item for item in waiting if item[1] % value]
        assert len(heap) == len(waiting)
        assert heap.next_due_ms == (waiting[0][0] if waiting else None)
