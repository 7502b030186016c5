"""When a pool starts a worker again, when it gives up, and what it ends with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import thorough

from fairlane.consumer.restarts import Command, EndNow, Phase, PoolState, RestartPolicy, Retire, Start, Terminate
from fairlane.settings import Settings

POLICY = RestartPolicy(base_s=0.5, factor=2, max_s=3, young_s=10, deaths_max=5)
USAGE, UNREACHABLE, BROKEN, KILLED = 2, 3, 4, -9


def pool(count: int = 1, *, works: bool = True) -> PoolState:
    state = PoolState(count, POLICY)
    for slot in range(count):
        state.started(slot, 0)
        if works:
            state.working(slot)
    return state


def deaths(state: PoolState, *lives: tuple[int, float]) -> list[Command]:
    """Slot 0 dies of each code after so many seconds, and is started again each time; what the last one led to."""
    answer: list[Command] = []
    now_s = 0.0
    for number, (code, lived_s) in enumerate(lives):
        if number:
            state.started(0, now_s)
        now_s += lived_s
        answer = state.died(0, code, now_s)
    return answer


@pytest.mark.parametrize(
    ("lives", "after_s"),
    [
        # An accident is mended soon, whatever it was: killed, failed, ended by somebody.
        ([(KILLED, 100)], 0.5),
        ([(1, 100)], 0.5),
        ([(0, 100)], 0.5),
        ([(6, 100)], 0.5),
        # Who dies young waits longer each time, up to the longest wait.
        ([(1, 1)], 0.5),
        ([(1, 1)] * 2, 1),
        ([(1, 1)] * 3, 2),
        ([(1, 1)] * 4, 3),
        # One that lived long enough is no part of a row.
        ([(1, 1)] * 4 + [(1, 10)], 0.5),
        ([(1, 1)] * 4 + [(1, 10), (1, 1)], 0.5),
        # Kafka that was there and is not answers again some day, and no crash loop comes of it.
        ([(UNREACHABLE, 1)] * 2, 1),
        ([(UNREACHABLE, 1)] * 500, 3),
    ],
)
def test_a_dead_process_is_started_again_after(lives: list[tuple[int, float]], after_s: float) -> None:
    state = pool()
    assert deaths(state, *lives) == [Start(0, after_s)]
    assert (state.phase, state.gave_up) == (Phase.RUNNING, "")


@pytest.mark.parametrize(
    ("works", "lives", "code", "says"),
    [
        (True, [(1, 1)] * 5, 1, "5 times in a row within 10 s of its start, the last time with exit code 1"),
        (False, [(KILLED, 1)] * 5, 1, "the last time with signal 9"),
        (True, [(1, 10)] + [(1, 9)] * 5, 1, "5 times"),
        # What no restart mends.
        (False, [(USAGE, 1)], 2, "cannot start"),
        (False, [(BROKEN, 1)], 4, "cannot start"),
        (True, [(BROKEN, 100)], 4, "cannot start"),
        (False, [(UNREACHABLE, 1)], 3, "cannot start"),
    ],
)
def test_a_pool_gives_up_and_says_why(works: bool, lives: list[tuple[int, float]], code: int, says: str) -> None:
    state = pool(works=works)
    assert deaths(state, *lives) == [Terminate(())]
    assert state.ended
    assert (state.exit_code, state.guilty) == (code, 0)
    assert says in state.gave_up


def test_kafka_that_another_slot_has_seen_is_waited_for() -> None:
    state = pool(2, works=False)
    state.working(1)
    assert state.died(0, UNREACHABLE, 1) == [Start(0, 0.5)]


def test_working_again_ends_the_row_of_vain_starts() -> None:
    state = pool()
    deaths(state, *[(UNREACHABLE, 1)] * 5)
    state.started(0, 100)
    state.working(0)
    assert state.died(0, UNREACHABLE, 200) == [Start(0, 0.5)]


def test_a_crash_loop_of_one_slot_drains_the_others_and_their_codes_change_nothing() -> None:
    state = pool(2)
    assert deaths(state, *[(1, 1)] * 5) == [Terminate((1,))]
    assert not state.ended
    state.died(1, 6, 30)
    assert (state.ended, state.exit_code) == (True, 1)


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([0, 0, 0], 0),
        ([0, 6, 0], 6),
        ([6, 1, 0], 1),
        ([0, KILLED, 6], 1),
        ([0, 3, 0], 1),
        # It was told to end before it had begun.
        ([0, -15, 0], 0),
    ],
)
def test_a_drained_pool_ends_with_the_worst_of_its_processes(codes: list[int], code: int) -> None:
    state = pool(3)
    assert state.signalled(15) == [Terminate((0, 1, 2))]
    for slot, each in enumerate(codes):
        assert not state.ended
        assert state.died(slot, each, 50) == []
    assert (state.ended, state.exit_code) == (True, code)


def test_a_start_that_is_waited_for_is_not_wanted_any_more_once_the_pool_ends() -> None:
    state = pool(2)
    state.died(0, KILLED, 1)
    assert state.may_start(0)
    assert state.signalled(15) == [Terminate((1,))]
    assert not state.may_start(0)
    state.died(1, 0, 2)
    assert (state.ended, state.exit_code) == (True, 0)


def test_the_second_signal_ends_at_once_with_its_number_and_a_third_changes_nothing() -> None:
    state = pool(2)
    state.signalled(15)
    assert state.signalled(2) == [EndNow((0, 1))]
    assert state.signalled(15) == []
    state.died(0, 130, 1)
    state.died(1, KILLED, 1)
    assert (state.ended, state.exit_code) == (True, 130)


def test_who_does_not_end_in_time_is_ended_and_that_is_the_grace_exceeded() -> None:
    state = pool(2)
    state.signalled(15)
    state.died(0, 0, 1)
    assert state.out_of_time() == [EndNow((1,))]
    state.died(1, KILLED, 2)
    assert (state.ended, state.exit_code) == (True, 6)


def test_a_task_that_kills_its_workers_is_dead_before_the_pool_gives_up() -> None:
    assert RestartPolicy().deaths_max > Settings.model_fields["worker_lost_max"].default


def test_a_pool_grows_by_starts_and_shrinks_by_retiring_its_last() -> None:
    state = PoolState(4, POLICY, wanted=1)
    assert state.begin() == [Start(0, 0)]
    state.started(0, 0)
    assert state.resize(3) == [Start(1, 0), Start(2, 0)]
    state.started(1, 1)
    # Slot 2 was not started yet: there is nothing to end.
    assert state.resize(1) == [Retire((1,))]
    assert not state.may_start(2)
    # However it ends, it was asked to, and is not started again.
    assert state.died(1, 6, 2) == []
    assert (state.phase, state.ended, state.running) == (Phase.RUNNING, False, (0,))


def test_one_that_is_wanted_again_while_it_retires_is_started_when_it_has_ended() -> None:
    state = pool(2)
    assert state.resize(1) == [Retire((1,))]
    assert state.resize(2) == []
    assert state.died(1, 0, 1) == [Start(1, 0)]
    # It was no death: five in a row are still to come.
    assert deaths(pool(1), *[(1, 1)] * 4) == [Start(0, 3)]


def test_one_that_retires_is_not_asked_a_second_time_when_the_pool_ends() -> None:
    state = pool(3)
    state.resize(2)
    assert state.signalled(15) == [Terminate((0, 1))]
    assert state.resize(3) == []
    assert state.signalled(15) == [EndNow((0, 1, 2))]


EVENTS = st.one_of(
    st.tuples(st.just("die"), st.integers(0, 2), st.sampled_from([0, 1, 2, 3, 4, 6, -9, -11, -15, 143])),
    st.tuples(st.just("start"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("works"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("signal"), st.just(0), st.sampled_from([2, 15])),
    st.tuples(st.just("late"), st.just(0), st.just(0)),
    st.tuples(st.just("resize"), st.just(0), st.integers(1, 3)),
)


@given(st.lists(st.tuples(EVENTS, st.floats(0, 20)), max_size=60))
@thorough(300)
def test_every_slot_runs_or_will_be_started_until_the_pool_ends_and_then_none_is(  # noqa: C901 - one branch an event
    events: list[tuple[tuple[str, int, int], float]],
) -> None:
    state = PoolState(3, POLICY)
    waiting = {command.slot for command in state.begin() if isinstance(command, Start)}
    retiring: set[int] = set()
    wanted, now_s = 3, 0.0
    for (kind, slot, number), later_s in events:
        now_s += later_s
        order = list(Phase).index(state.phase)
        commands: list[Command] = []
        if kind == "start" and slot in waiting and state.may_start(slot):
            waiting.discard(slot)
            state.started(slot, now_s)
        elif kind == "works" and slot in state.running:
            state.working(slot)
        elif kind == "die" and slot in state.running:
            commands = state.died(slot, number, now_s)
            retiring.discard(slot)
        elif kind == "resize":
            commands = state.resize(number)
            if state.phase is Phase.RUNNING:
                wanted = number
                waiting -= set(range(wanted, 3))
        elif kind == "signal":
            commands = state.signalled(number)
        elif kind == "late":
            commands = state.out_of_time()
        for command in commands:
            if isinstance(command, Start):
                assert 0 <= command.after_s <= POLICY.max_s
                assert command.slot < wanted
                waiting.add(command.slot)
            elif isinstance(command, Retire):
                assert not retiring & set(command.slots)
                assert wanted <= min(command.slots)
                retiring |= set(command.slots)
            else:
                # Nobody is forgotten: all that run are told, but nobody is asked twice to end in good order.
                asked = retiring if isinstance(command, Terminate) else set()
                assert set(command.slots) == set(state.running) - asked
        assert list(Phase).index(state.phase) >= order
        assert {each for each in range(3) if state.may_start(each)} == (
            waiting if state.phase is Phase.RUNNING else set()
        )
        if state.phase is Phase.RUNNING:
            assert waiting | set(state.running) - retiring | (retiring & set(range(wanted))) == set(range(wanted))
        if state.ended:
            assert not state.running
            assert state.exit_code in {0, 1, 2, 3, 4, 6, 130, 143}
