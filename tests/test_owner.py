"""The owner of a partition and its schedules, fed events, time and deaths: each instant is a task once, whoever dies.

What stands for Kafka here: changelog, offset and tasks, which are committed all at one moment or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlane.consumer.owner import EVENTS_MAX, TASKS_MAX, Event, Owner, Turn
from fairlane.consumer.schedule_machine import REMEMBERED_MS, Deployment, Schedules
from fairlane.topics.names import QueueNames
from fairlane.topics.schedules import (
    ALL_MAX,
    LATE_MS,
    Schedule,
    ScheduleEvent,
    ScheduleState,
    decode_state,
    encode,
    key_of,
)
from fairlane.topics.task import Task

LANES = QueueNames("shop").default_lanes()
T0 = 1_790_000_000_000
TICK = Schedule(name="tick", type="tick", every_ms=1_000, defined_ms=1)


@dataclass
class Log:
    """A partition of events, and what was committed for it."""

    events: list[Event] = field(default_factory=list)
    offset: int = 0
    states: dict[bytes, bytes | None] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)

    def write(self, event: ScheduleEvent) -> None:
        self.events.append(Event(len(self.events), key_of(event.name), encode(event)))

    def define(self, schedule: Schedule) -> None:
        self.write(ScheduleEvent(action="define", name=schedule.name, schedule=schedule))

    def ask(self, action: Any, name: str = "tick", at_ms: int = 0) -> None:
        self.write(ScheduleEvent(action=action, name=name, at_ms=at_ms, who="ann"))

    def owner(self, deployment: Deployment = Deployment()) -> Owner:  # noqa: B008 - frozen
        owner = Owner([Schedules(LANES, deployment)], self.offset)
        for key, value in self.states.items():
            owner.restore(key, value)
        for event in self.events[self.offset :]:
            owner.came(event)
        owner.begin()
        return owner

    def commit(self, owner: Owner, turn: Turn) -> None:
        self.states.update(turn.states)
        self.offset = turn.offset
        self.tasks += turn.tasks
        self.turns.append(turn)
        owner.settled(turn.number)

    def run(self, owner: Owner, now_ms: int) -> None:
        """Settle all that there is to do now."""
        while (turn := owner.stage(now_ms)) is not None:
            self.commit(owner, turn)

    def state(self, name: str = "tick") -> ScheduleState:
        found = decode_state(name, self.states[key_of(name)] or b"")
        assert found is not None
        return found

    @property
    def ids(self) -> list[str]:
        return [task.id for task in self.tasks]


def ids(schedule: Schedule, *instants: int) -> list[str]:
    return [schedule.task_id(instant) for instant in instants]


def test_an_instant_is_a_task_with_its_id_in_the_turn_that_says_how_far_it_is() -> None:
    log = Log()
    log.define(replace_(TICK, payload=b'{"n": 1}', priority=5, key=b"k", max_attempts=2, expires_ms=5_000))
    owner = log.owner()
    log.run(owner, T0)
    assert not log.tasks
    assert owner.next_due_ms == T0 + 1_000
    log.run(owner, T0 + 1_100)
    (task,) = log.tasks
    assert task.id == "tick@2026-09-21T14:13:21.000Z"
    assert (task.type, task.payload, task.lane, task.key, task.max_attempts) == (
        "tick",
        b'{"n": 1}',
        "shop.p5",
        b"k",
        2,
    )
    assert (task.expires_ms, task.not_before_ms, task.enqueued_ms) == (T0 + 6_000, 0, T0 + 1_100)
    assert log.turns[-1].tasks == (task,)
    assert log.state().last_ms == T0 + 1_000
    assert log.state().fired == 1


def replace_(schedule: Schedule, **changed: Any) -> Schedule:
    return msgspec.structs.replace(schedule, **changed)


def test_nothing_more_is_staged_before_the_last_turn_is_in_kafka_and_a_timer_sends_the_same_offset_again() -> None:
    log = Log()
    log.define(TICK)
    owner = log.owner()
    turn = owner.stage(T0)
    assert turn is not None
    assert owner.stage(T0 + 5_000) is None
    assert owner.next_due_ms is None
    log.commit(owner, turn)
    again = owner.stage(T0 + 1_000)
    assert again is not None
    assert (again.offset, len(again.tasks)) == (1, 1)


def test_nothing_is_done_before_the_changelog_was_read() -> None:
    owner = Owner([Schedules(LANES)], 0)
    owner.came(Event(0, key_of("tick"), encode(ScheduleEvent(action="define", name="tick", schedule=TICK))))
    assert (owner.stage(T0), owner.next_due_ms) == (None, None)
    owner.begin()
    assert owner.next_due_ms == 0
    assert owner.stage(T0) is not None


def test_records_that_are_no_events_are_passed_and_their_offset_is_committed() -> None:
    log = Log()
    owner = log.owner()
    for offset, key, value in (
        (0, b"", b"x"),
        (1, b"schedule:x", b"no json"),
        (2, b"flow:17", b"{}"),
        (3, b"\xff", b""),
    ):
        owner.came(Event(offset, key, value))
    owner.reached_end(9)
    log.run(owner, T0)
    assert log.offset == 9
    assert not log.states
    assert owner.unknown == {"flow", "\ufffd"}
    assert owner.stage(T0) is None


@pytest.mark.parametrize(
    ("misfire", "down_s", "fires"),
    [("skip", 50, 50), ("latest", 50, 50), ("all", 50, 50), ("skip", 3_000, 61), ("all", 3_000, ALL_MAX)],
)
def test_instants_up_to_a_minute_late_are_on_time_whatever_the_policy(misfire: Any, down_s: int, fires: int) -> None:
    log = Log()
    log.define(replace_(TICK, misfire=misfire))
    log.run(log.owner(), T0)
    now_ms = T0 + down_s * 1000
    log.run(log.owner(), now_ms)
    assert log.ids == ids(TICK, *range(now_ms - (fires - 1) * 1000, now_ms + 1, 1000))
    assert log.state().last_ms == now_ms


@pytest.mark.parametrize(("misfire", "fires"), [("skip", 0), ("latest", 1), ("all", 8)])
def test_what_was_missed_is_made_up_for_as_the_policy_says(misfire: Any, fires: int) -> None:
    hourly = Schedule(name="hourly", type="t", cron="0 * * * *", misfire=misfire)
    log = Log()
    log.define(hourly)
    log.run(log.owner(), T0)
    now_ms = T0 // 3_600_000 * 3_600_000 + 8 * 3_600_000 + LATE_MS + 1_000
    log.run(log.owner(), now_ms)
    newest = now_ms // 3_600_000 * 3_600_000
    assert log.ids == ids(hourly, *(newest - back * 3_600_000 for back in reversed(range(fires))))
    assert ("missed" in "".join(log.turns[-1].notes)) is (misfire != "all")


def test_much_that_is_due_at_once_goes_in_turns_of_a_thousand() -> None:
    log = Log()
    for number in range(5):
        log.define(replace_(TICK, name=f"tick-{number}", misfire="all"))
    log.run(log.owner(), T0)
    log.run(log.owner(), T0 + 900_000)
    assert max(len(turn.tasks) for turn in log.turns) <= TASKS_MAX
    assert len(set(log.ids)) == len(log.ids) == 4_500


def test_many_events_go_in_turns() -> None:
    log = Log()
    for number in range(2 * EVENTS_MAX + 1):
        log.define(replace_(TICK, name=f"tick-{number}"))
    log.run(log.owner(), T0)
    assert [turn.offset for turn in log.turns] == [EVENTS_MAX, 2 * EVENTS_MAX, 2 * EVENTS_MAX + 1]


def test_what_was_due_while_it_was_paused_is_not_made_up_for() -> None:
    log = Log()
    log.define(replace_(TICK, misfire="all"))
    owner = log.owner()
    log.run(owner, T0)
    log.ask("pause")
    owner.came(log.events[-1])
    log.run(owner, T0 + 10)
    assert owner.next_due_ms is None
    assert (log.state().paused_ms, log.state().paused_by) == (T0 + 10, "ann")
    log.ask("resume")
    log.run(log.owner(), T0 + 30_500)
    log.run(log.owner(), T0 + 31_000)
    assert log.ids == ids(TICK, T0 + 31_000)


def test_what_was_due_when_it_was_paused_is_a_task_though_its_owner_came_later() -> None:
    log = Log()
    log.define(TICK)
    log.run(log.owner(), T0)
    log.ask("pause", at_ms=T0 + 3_500)
    log.run(log.owner(), T0 + 9_000)
    assert log.ids == ids(TICK, T0 + 1_000, T0 + 2_000, T0 + 3_000)


def test_what_was_due_when_it_was_defined_anew_is_a_task_of_the_old_definition() -> None:
    log = Log()
    log.define(TICK)
    log.run(log.owner(), T0)
    faster = ScheduleEvent(
        action="define", name="tick", at_ms=T0 + 2_500, schedule=replace_(TICK, every_ms=60_000, defined_ms=2)
    )
    log.write(faster)
    log.run(log.owner(), T0 + 4_000)
    assert log.ids == ids(TICK, T0 + 1_000, T0 + 2_000)
    assert log.state().last_ms == T0 + 4_000


def test_a_definition_of_an_older_deployment_changes_nothing_and_a_newer_one_wins() -> None:
    log = Log()
    log.define(replace_(TICK, defined_ms=20))
    log.define(replace_(TICK, defined_ms=10, every_ms=60_000))
    log.run(log.owner(), T0)
    assert log.state().schedule.every_ms == 1_000
    log.define(replace_(TICK, defined_ms=30, every_ms=60_000))
    log.define(replace_(TICK, defined_ms=30, every_ms=60_000))
    log.run(log.owner(), T0 + 5)
    assert log.state().schedule.every_ms == 60_000
    assert log.state().last_ms == T0 + 5


def test_another_payload_leaves_the_instants_as_they_are() -> None:
    log = Log()
    log.define(TICK)
    log.run(log.owner(), T0)
    log.define(replace_(TICK, defined_ms=2, payload=b"[]"))
    log.run(log.owner(), T0 + 3_000)
    log.run(log.owner(), T0 + 5_000)
    assert log.ids == ids(TICK, *(T0 + 1_000 * second for second in range(1, 6)))
    assert [task.payload for task in log.tasks] == [b"{}"] * 3 + [b"[]"] * 2


def test_what_was_removed_does_not_come_back_with_an_old_definition_and_is_forgotten_in_the_end() -> None:
    log = Log()
    log.define(replace_(TICK, defined_ms=T0 - 10))
    log.run(log.owner(), T0)
    log.ask("remove", at_ms=T0)
    log.define(replace_(TICK, defined_ms=T0 - 5))
    log.run(log.owner(), T0 + 5_000)
    assert log.state().removed_ms == T0
    log.define(replace_(TICK, defined_ms=T0 + 6_000))
    log.run(log.owner(), T0 + 7_000)
    assert log.state().removed_ms == 0
    assert log.state().last_ms == T0 + 7_000
    log.ask("remove", at_ms=T0 + 7_500)
    owner = log.owner()
    log.run(owner, T0 + 7_500)
    assert owner.entities == 1
    log.run(owner, T0 + 7_500 + REMEMBERED_MS)
    assert log.states[key_of("tick")] is None
    assert owner.entities == log.owner().entities == 0
    assert not log.tasks


def test_what_the_app_no_longer_defines_is_removed_by_a_newer_deployment_that_has_its_type_and_by_no_other() -> None:
    log = Log()
    log.define(replace_(TICK, defined_ms=10))
    log.define(replace_(TICK, name="by-hand", by="cli", defined_ms=10))
    log.run(log.owner(), T0)
    for deployment in (
        Deployment((), frozenset({"other"}), 20),
        Deployment((), frozenset({"tick"}), 10),
        Deployment((TICK,), frozenset({"tick"}), 20),
    ):
        log.run(log.owner(deployment), T0 + 1)
        assert not log.state().removed_ms
    log.run(log.owner(Deployment((), frozenset({"tick"}), 20)), T0 + 2)
    assert log.state().removed_ms == 20
    assert not log.state("by-hand").removed_ms


def test_jitter_makes_a_task_due_later_by_the_same_whoever_asks() -> None:
    log = Log()
    spread = replace_(TICK, jitter_ms=600_000)
    log.define(spread)
    log.run(log.owner(), T0)
    log.run(log.owner(), T0 + 50_000)
    later = [task.not_before_ms - (T0 + 1_000 * place) for place, task in enumerate(log.tasks, 1) if task.not_before_ms]
    assert len(set(later)) > 30
    assert all(0 <= each <= 600_000 for each in later)
    assert later[-1] == spread.due_ms(T0 + 50_000) - T0 - 50_000


@pytest.mark.parametrize(
    "bad", [{"cron": "no", "every_ms": 0}, {"tz": "Mars/Olympus", "cron": "* * * * *", "every_ms": 0}]
)
def test_a_definition_that_nobody_can_follow_is_told_and_changes_nothing(bad: dict[str, Any]) -> None:
    log = Log()
    log.define(replace_(TICK, **bad))
    log.run(log.owner(), T0)
    assert not log.states
    assert log.turns[0].notes[0].startswith("schedule 'tick' is not taken")


def test_a_state_that_this_release_cannot_follow_stays_as_it_is() -> None:
    log = Log(
        states={key_of("tick"): encode(ScheduleState(schedule=replace_(TICK, cron="@new", every_ms=0), last_ms=5))}
    )
    owner = log.owner()
    log.run(owner, T0)
    assert owner.next_due_ms is None
    assert not log.turns


step = st.one_of(
    st.tuples(st.just("time"), st.integers(0, 50_000)),
    st.tuples(st.just("stage"), st.booleans()),
    st.tuples(st.just("die"), st.booleans()),
    st.tuples(st.sampled_from(["define", "pause", "resume", "remove"]), st.sampled_from(["a", "b"])),
)


@settings(max_examples=200)
@given(st.lists(step, max_size=40), st.sampled_from(["skip", "latest", "all"]))
def test_whoever_dies_when_each_instant_is_a_task_once_and_none_is_left_out(
    steps: list[tuple[str, Any]], misfire: Any
) -> None:
    """`steady` is never touched after its definition, and nobody is away for a minute: it has all of its instants."""
    log, now_ms = Log(), T0
    steady = Schedule(name="steady", type="t", every_ms=7_000, misfire=misfire)
    log.define(steady)
    owner = log.owner()
    log.run(owner, now_ms)
    for what, how in steps:
        if what == "time":
            now_ms += how
            log.run(owner, now_ms)
        elif what == "stage":
            now_ms += 1_000
            turn = owner.stage(now_ms)
            if turn is not None and how:
                log.commit(owner, turn)
            elif turn is not None:
                # Its transaction was aborted, and with it went the assignment.
                owner = log.owner()
        elif what == "die":
            turn = owner.stage(now_ms)
            if turn is not None and how:
                log.commit(owner, turn)
            owner = log.owner()
        else:
            action: Any = what
            schedule = replace_(TICK, name=how, every_ms=5_000, defined_ms=now_ms) if what == "define" else None
            log.write(ScheduleEvent(action=action, name=how, at_ms=now_ms, schedule=schedule))
            owner.came(log.events[-1])
    log.run(owner, now_ms)
    assert len(set(log.ids)) == len(log.ids)
    fired = [task.id for task in log.tasks if task.id.startswith("steady@")]
    assert fired == ids(steady, *steady.timetable.newest(T0, now_ms, 10**6))
    assert log.offset == len(log.events)
