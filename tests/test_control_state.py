"""What operators ask, folded: the newest word on each thing counts until it is taken back or its time is over."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import thorough
from worker_parts import NOW_MS, task

from fairlane.consumer.control_state import ControlState, cancel_of
from fairlane.consumer.orders import HOLD, NO_ORDERS, Fate, Orders
from fairlane.topics.control import (
    CANCEL,
    DEMOTE,
    KILL,
    LANE,
    PAUSE,
    QUEUE,
    TASK,
    TYPE,
    WEIGHT,
    ControlRecord,
    encode_control,
    key_of,
)
from fairlane.topics.names import Lane, QueueNames

LANES = ("shop.p5", "shop.p3", "orders")
SHOP = QueueNames("shop")


def state() -> ControlState:
    return ControlState([Lane(topic, level, 4) for topic, level in zip(LANES, (5, 3, 9), strict=True)], SHOP)


def ask(target: ControlState, kind: str, scope: str, **fields: Any) -> str:
    record = ControlRecord(kind=kind, scope=scope, **fields)
    return target.note(record.key, encode_control(record))


def cancel(target: ControlState, task_id: str = "t-1", **fields: Any) -> str:
    return ask(target, CANCEL, TASK + task_id, **{"before_ms": NOW_MS, **fields})


def test_a_lane_is_paused_until_a_tombstone_takes_it_back() -> None:
    s = state()
    ask(s, PAUSE, LANE + "shop.p3")
    ask(s, PAUSE, LANE + "somebody-elses")
    assert s.look(NOW_MS) == Orders(frozenset({"shop.p3"}))
    s.note(key_of(PAUSE, LANE + "shop.p3"), None)
    assert s.look(NOW_MS) == NO_ORDERS


def test_a_paused_queue_is_all_lanes_and_the_tiers_and_leaves_pauses_of_lanes_behind() -> None:
    s = state()
    ask(s, PAUSE, LANE + "orders")
    ask(s, PAUSE, QUEUE)
    assert s.look(NOW_MS) == Orders(frozenset(LANES), tiers=True)
    s.note(key_of(PAUSE, QUEUE), None)
    assert s.look(NOW_MS) == Orders(frozenset({"orders"}))


def test_a_pause_ends_by_itself_and_says_when() -> None:
    s = state()
    ask(s, PAUSE, QUEUE, until_ms=NOW_MS + 50)
    ask(s, PAUSE, LANE + "orders", until_ms=NOW_MS + 90)
    assert s.next_end_ms == NOW_MS + 50
    assert s.look(NOW_MS + 49).tiers
    assert s.look(NOW_MS + 50) == Orders(frozenset({"orders"}))
    assert s.next_end_ms == NOW_MS + 90
    assert s.look(NOW_MS + 90) == NO_ORDERS
    assert s.next_end_ms is None


def test_a_lane_has_another_weight_until_it_is_taken_back_or_its_time_is_over() -> None:
    s = state()
    ask(s, WEIGHT, LANE + "shop.p3", weight=9)
    ask(s, WEIGHT, LANE + "orders", weight=2, until_ms=NOW_MS + 5)
    ask(s, WEIGHT, LANE + "somebody-elses", weight=2)
    assert s.look(NOW_MS).weights == (("shop.p3", 9), ("orders", 2))
    assert s.look(NOW_MS).weighed({"shop.p5": 16, "shop.p3": 4}) == {"shop.p5": 16, "shop.p3": 9}
    assert s.look(NOW_MS + 5).weights == (("shop.p3", 9),)
    s.note(key_of(WEIGHT, LANE + "shop.p3"), None)
    assert s.look(NOW_MS + 5) == NO_ORDERS


@pytest.mark.parametrize("weight", [0, 10_001, -3])
def test_a_weight_that_is_none_is_the_newest_word_all_the_same(weight: int) -> None:
    s = state()
    ask(s, WEIGHT, LANE + "shop.p3", weight=9)
    ask(s, WEIGHT, LANE + "shop.p3", weight=weight)
    ask(s, WEIGHT, QUEUE, weight=3)
    assert s.look(NOW_MS) == NO_ORDERS
    assert s.unknown == {"weight of lane", "weight of queue"}


def test_what_is_asked_for_types_is_one_answer_for_each_task() -> None:
    s = state()
    ask(s, PAUSE, TYPE + "mail", who="ann")
    ask(s, DEMOTE, TYPE + "resize", to="shop.p3", reason="slow", who="ann")
    ask(s, KILL, TYPE + "mail?/to = 1", action="drop", where="/to = 1", who="ann")
    ask(s, KILL, TYPE + "mail?/to = 2", action="dlq", where="/to = 2", who="bob")
    ask(s, KILL, TYPE + "sms", action="park")
    types = dict(s.look(NOW_MS).types)
    assert types["mail"].fate(task("mail", payload=b'{"to":1}')) == Fate("drop", "by ann")
    assert types["mail"].fate(task("mail", payload=b'{"to":2}')) == Fate("dlq", "by bob")
    assert types["mail"].fate(task("mail", payload=b"no JSON")) is HOLD
    assert types["sms"].fate(task("sms")) is HOLD
    assert types["resize"].fate(task("resize", lane="orders")) == Fate("move", "by ann: slow", "shop.p3", 3)
    assert types["resize"].fate(task("resize", lane="shop.p3")) is None
    assert types["resize"].fate(task("resize", lane="shop.p1")) is None
    s.note(key_of(PAUSE, TYPE + "mail"), None)
    assert dict(s.look(NOW_MS).types)["mail"].fate(task("mail", payload=b"no JSON")) is None


def test_a_kill_switch_comes_before_a_demotion_and_that_before_a_pause() -> None:
    s = state()
    ask(s, PAUSE, TYPE + "mail")
    ask(s, DEMOTE, TYPE + "mail", to="shop.p3")
    assert _fate(s) == "move"
    ask(s, KILL, TYPE + "mail", action="park")
    assert _fate(s) == "move"
    ask(s, KILL, TYPE + "mail?header:a exists", action="drop", where="header:a exists")
    assert _fate(s) == "move"
    assert _fate(s, headers=(("a", b""),)) == "drop"


def _fate(s: ControlState, **fields: Any) -> str:
    fate = dict(s.look(NOW_MS).types)["mail"].fate(task("mail", **fields))
    return fate.action if fate is not None else "runs"


def test_a_cancel_binds_what_was_enqueued_before_it_and_not_replayed_since() -> None:
    s = state()
    assert cancel(s, replays=1) == "t-1"
    assert cancel_of(s.cancels, task(enqueued_ms=NOW_MS, replays=1)) is not None
    assert cancel_of(s.cancels, task(enqueued_ms=NOW_MS + 1, replays=1)) is None
    assert cancel_of(s.cancels, task(enqueued_ms=NOW_MS, replays=2)) is None
    assert cancel_of(s.cancels, task(id="t-2", enqueued_ms=NOW_MS)) is None


def test_a_cancel_says_who_and_why_and_ends_by_itself() -> None:
    s = state()
    cancel(s, who="ann@host", reason="twice", until_ms=NOW_MS + 10)
    cancel(s, "t-2", until_ms=NOW_MS + 20)
    cancel(s, "t-3")
    assert s.cancels["t-1"].why == "by ann@host: twice"
    s.look(NOW_MS + 10)
    assert set(s.cancels) == {"t-2", "t-3"}
    assert s.next_end_ms == NOW_MS + 20
    s.look(NOW_MS + 20)
    assert set(s.cancels) == {"t-3"}
    assert s.next_end_ms is None


def test_what_only_a_newer_operator_can_ask_for_is_named_and_changes_nothing() -> None:
    s = state()
    ask(s, "limit", "type:email")
    ask(s, PAUSE, "key:ann")
    ask(s, KILL, "type:email", action="burn")
    ask(s, KILL, "type:email?here", action="drop", where="here")
    ask(s, DEMOTE, "type:email", to="orders")
    s.note(b"pause:queue", b'{"v":2,"kind":"pause","scope":"queue"}')
    s.note(b"pause:lane:orders", b'{"v":1,"kind":"pause","scope":"queue"}')
    s.note(b"pause:queue", b"not JSON")
    assert s.unknown == {"limit", "pause of key", "kill of type", "demote of type"}
    assert s.look(NOW_MS) == NO_ORDERS
    assert not s.cancels


scopes = st.sampled_from([QUEUE, *(LANE + lane for lane in LANES), TASK + "t-1", TASK + "t-2", TYPE + "a"])
records = st.builds(
    ControlRecord,
    kind=st.sampled_from([CANCEL, PAUSE, WEIGHT, KILL, DEMOTE]),
    scope=scopes,
    until_ms=st.sampled_from([0, NOW_MS + 1, NOW_MS + 5]),
    before_ms=st.just(NOW_MS),
    weight=st.sampled_from([0, 1, 7]),
    action=st.sampled_from(["", "drop", "park"]),
    to=st.sampled_from(["", "shop.p3", "orders"]),
)


@given(st.lists(st.tuples(records, st.booleans()), max_size=12), st.integers(0, 6))
@thorough(300)
def test_the_fold_is_that_of_a_compacted_topic(written: list[tuple[ControlRecord, bool]], later_ms: int) -> None:
    """Whoever reads all of it, or only what compaction leaves, knows the same; looking on the way changes nothing."""
    whole, compacted = state(), state()
    newest: dict[bytes, bytes | None] = {}
    for record, is_taken_back in written:
        value = None if is_taken_back else encode_control(record)
        newest.pop(record.key, None)
        newest[record.key] = value
        whole.note(record.key, value)
        whole.look(NOW_MS)
    for key, value in newest.items():
        compacted.note(key, value)
    assert whole.look(NOW_MS + later_ms) == compacted.look(NOW_MS + later_ms)
    assert whole.cancels == compacted.cancels
    if compacted.next_end_ms is not None:
        assert whole.next_end_ms is not None
        assert whole.next_end_ms <= compacted.next_end_ms, "a look too many does no harm"
