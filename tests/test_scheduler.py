"""Which task runs next: by urgency, by weight, by concurrency, and never never."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from properties import thorough
from scheduler_model import SchedulerModel, Task

from fairlane.consumer.scheduler import Scheduler
from fairlane.topics.errors import InvariantBroken, UsageError

LANES = {"p1": (1, 1), "p2": (2, 2), "p3": (3, 4), "p4": (4, 8), "p5": (5, 16)}


def scheduler(
    lanes: Mapping[str, tuple[int, int]] = LANES, concurrency: Mapping[str, int] | None = None
) -> Scheduler[str]:
    return Scheduler(lanes, concurrency or {})


def fill(target: Scheduler[str], per_lane: int) -> None:
    for name in LANES:
        target.offer_many(name, [("work", name)] * per_lane)


def test_the_most_urgent_lane_goes_first() -> None:
    tasks = scheduler()
    for name in ("p1", "p5", "p3"):
        tasks.offer(name, "work", name)
    assert [tasks.take(1), tasks.take(1), tasks.take(1)] == [["p5"], ["p3"], ["p1"]]
    assert tasks.take(1) == []


def test_a_lane_is_first_in_first_out_but_for_what_is_put_at_its_front() -> None:
    tasks = scheduler()
    tasks.offer_many("p3", [("work", "second"), ("work", "third")])
    tasks.offer("p3", "work", "fourth")
    tasks.offer_first("p3", "work", "first")
    assert tasks.take(10) == ["first", "second", "third", "fourth"]


def test_one_round_of_full_lanes_gives_each_its_weight() -> None:
    tasks = scheduler()
    fill(tasks, 40)
    one_round = ["p5"] * 16 + ["p4"] * 8 + ["p3"] * 4 + ["p2"] * 2 + ["p1"]
    assert tasks.take(62) == one_round * 2


def test_a_lone_lane_is_served_without_pause_whatever_its_weight() -> None:
    tasks = scheduler()
    tasks.offer_many("p1", [("work", "p1")] * 100)
    assert len(tasks.take(100)) == 100


def test_the_rounds_of_a_lone_lane_leave_the_tokens_that_single_takes_would() -> None:
    for taken in range(1, 12):
        at_once, one_by_one = scheduler(), scheduler()
        for tasks in (at_once, one_by_one):
            tasks.offer_many("p3", [("work", "p3")] * 30)
        at_once.take(taken)
        for _ in range(taken):
            one_by_one.take(1)
        fill(at_once, 20)
        fill(one_by_one, 20)
        assert at_once.take(60) == one_by_one.take(60)


@pytest.mark.parametrize("name", LANES)
def test_the_starvation_bound_is_reached_but_not_passed(name: str) -> None:
    """A lane spends its tokens while it is alone; then all others come with full buckets: the worst that can be."""
    level, weight = LANES[name]
    tasks = scheduler()
    tasks.offer_many(name, [("work", name)] * weight)
    tasks.take(weight)
    fill(tasks, 100)
    before_it = tasks.take(200).index(name)
    others = sum(w for _, w in LANES.values()) - weight
    more_urgent = sum(w for other_level, w in LANES.values() if other_level > level)
    assert before_it == others + more_urgent


@thorough(300)
@given(
    st.dictionaries(st.text(max_size=3), st.tuples(st.integers(1, 5), st.integers(1, 12)), min_size=1, max_size=7),
    st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_shares_of_backlogged_lanes_are_their_weights(lanes: dict[str, tuple[int, int]], batches: list[int]) -> None:
    tasks: Scheduler[str] = Scheduler(lanes)
    for name in lanes:
        tasks.offer_many(name, [("work", name)] * 800)
    total = sum(weight for _, weight in lanes.values())
    served: Counter[str] = Counter()
    for batch in batches:
        served.update(tasks.take(batch))
        rounds, rest = divmod(served.total(), total)
        for name, (_, weight) in lanes.items():
            assert rounds * weight <= served[name] <= rounds * weight + min(weight, rest)


def test_lanes_of_one_level_share_by_weight_in_the_order_given() -> None:
    tasks = scheduler({"orders": (3, 2), "p3": (3, 1)})
    tasks.offer_many("orders", [("work", "orders")] * 4)
    tasks.offer_many("p3", [("work", "p3")] * 2)
    assert tasks.take(6) == ["orders", "orders", "p3", "orders", "orders", "p3"]


def test_a_type_at_its_limit_steps_aside_and_blocks_nobody() -> None:
    tasks = scheduler(concurrency={"report": 1})
    tasks.offer_many("p3", [("report", "r1"), ("report", "r2"), ("mail", "m1"), ("report", "r3"), ("mail", "m2")])
    assert tasks.take(10) == ["r1", "m1", "m2"]
    assert tasks.take(10) == []
    assert tasks.waiting("p3") == 2


def test_a_slot_that_frees_goes_to_the_oldest_aside_ahead_of_its_lane() -> None:
    tasks = scheduler(concurrency={"report": 1})
    tasks.offer_many("p3", [("report", "r1"), ("report", "r2"), ("report", "r3"), *[("mail", "m")] * 3])
    assert tasks.take(2) == ["r1", "m"]
    tasks.finished("report")
    assert tasks.take(2) == ["r2", "m"]
    tasks.finished("report")
    assert tasks.take(2) == ["r3", "m"]


def test_a_slot_that_frees_goes_to_the_most_urgent_lane_even_if_its_task_came_later() -> None:
    tasks = scheduler(concurrency={"report": 1})
    tasks.offer("p1", "report", "running")
    assert tasks.take(1) == ["running"]
    tasks.offer("p1", "report", "low")
    assert tasks.take(1) == []
    tasks.offer("p5", "report", "high")
    tasks.finished("report")
    assert tasks.take(2) == ["high"]
    tasks.finished("report")
    assert tasks.take(2) == ["low"]


def test_the_slots_of_a_type_are_shared_by_weight_too_so_that_no_lane_starves_for_them() -> None:
    """P5 has an endless supply of reports and of other tasks; the one report in P1 gets its turn."""
    tasks = scheduler(concurrency={"report": 1})
    tasks.offer_many("p5", [("report", "high"), ("mail", "m")] * 200)
    tasks.offer("p1", "report", "low")
    reports: list[str] = []
    while "low" not in reports:
        ran = [task for task in tasks.take(5) if task != "m"]
        for _ in ran:
            tasks.finished("report")
        reports += ran
    assert len(reports) <= 16 + 1 + 1


def test_what_is_put_at_the_front_is_ahead_of_those_that_stepped_aside() -> None:
    tasks = scheduler(concurrency={"report": 1})
    tasks.offer_many("p3", [("report", "r1"), ("report", "r2")])
    assert tasks.take(5) == ["r1"]
    tasks.offer_first("p3", "report", "handed back")
    tasks.finished("report")
    assert tasks.take(5) == ["handed back"]


def test_what_is_put_before_a_task_that_waits_for_a_slot_does_not_make_it_lose_its_place() -> None:
    tasks = scheduler(concurrency={"report": 1})
    tasks.offer("p3", "report", "r1")
    assert tasks.take(1) == ["r1"]
    tasks.offer("p3", "report", "r2")  # heads its lane in vain
    tasks.offer_first("p3", "mail", "m")
    tasks.finished("report")
    assert tasks.take(5) == ["r2", "m"]


def test_discarded_tasks_are_returned_and_give_their_slots_back() -> None:
    tasks = scheduler(concurrency={"report": 1})
    tasks.offer_many("p3", [("report", "r1"), ("report", "r2 gone"), ("report", "r3"), ("mail", "m gone")])
    assert tasks.take(1) == ["r1"]
    tasks.finished("report")
    assert tasks.discard(lambda task: "gone" in task) == ["r2 gone", "m gone"]
    assert tasks.take(5) == ["r3"]
    assert len(tasks) == 0


def test_a_discarded_task_that_held_a_slot_passes_it_on() -> None:
    tasks = scheduler(concurrency={"report": 1})
    tasks.offer_many("p3", [("report", "r1"), ("report", "r2"), ("report", "r3")])
    tasks.take(1)
    tasks.take(1)
    tasks.finished("report")  # r2 holds the slot now
    assert tasks.discard(lambda task: task == "r2") == ["r2"]
    assert tasks.take(5) == ["r3"]


def test_a_paused_lane_is_not_served_and_others_share_as_if_it_were_not_there() -> None:
    tasks = scheduler()
    fill(tasks, 40)
    tasks.pause({"p5", "p3"})
    one_round = ["p4"] * 8 + ["p2"] * 2 + ["p1"]
    assert tasks.take(22) == one_round * 2
    tasks.pause(())
    assert tasks.take(1) == ["p5"]
    assert tasks.waiting("p3") == 40


def test_weights_that_change_are_shares_from_the_next_round_on() -> None:
    tasks = scheduler()
    fill(tasks, 100)
    tasks.take(3)
    tasks.weigh({"p5": 1, "p1": 3})
    one_round = ["p5"] + ["p4"] * 8 + ["p3"] * 4 + ["p2"] * 2
    assert tasks.take(1 + 8 + 4 + 2 + 1) == [*one_round, "p1"], "no bucket has more than the new weight"
    assert tasks.take(18) == [*one_round, "p1", "p1", "p1"]


def test_a_paused_lane_holds_no_slot_of_a_type() -> None:
    tasks = scheduler(concurrency={"one": 1})
    tasks.offer("p3", "one", "runs")
    tasks.offer("p3", "one", "was next")
    tasks.offer("p1", "one", "waits behind it")
    assert tasks.take(3) == ["runs"]
    tasks.finished("one")
    tasks.pause({"p3"})
    assert tasks.take(3) == ["waits behind it"]
    tasks.pause(())
    assert tasks.take(3) == []
    tasks.finished("one")
    assert tasks.take(3) == ["was next"]


def test_it_says_what_waits_where() -> None:
    tasks = scheduler()
    tasks.offer("p1", "work", "a")
    tasks.offer_many("p4", [("work", "b"), ("work", "c")])
    assert (len(tasks), tasks.waiting("p4"), tasks.waiting("p5")) == (3, 2, 0)
    assert tasks.lanes_with_work == ("p4", "p1")


def test_a_limit_that_is_raised_lets_those_aside_pass_and_a_lower_one_ends_nobody() -> None:
    tasks = scheduler(concurrency={"report": 1})
    tasks.offer_many("p3", [("report", f"r{number}") for number in range(1, 7)])
    assert tasks.take(9) == ["r1"]
    tasks.set_limit("report", 3)
    assert tasks.take(9) == ["r2", "r3"]
    tasks.set_limit("report", 2)
    tasks.finished("report")
    assert tasks.take(9) == []
    tasks.finished("report")
    assert tasks.take(9) == ["r4"]


@pytest.mark.parametrize(("kind", "limit"), [("report", 0), ("mail", 2)])
def test_a_limit_is_of_a_type_that_has_one_and_at_least_one(kind: str, limit: int) -> None:
    with pytest.raises(InvariantBroken, match=kind):
        scheduler(concurrency={"report": 1}).set_limit(kind, limit)


def test_a_slot_that_nobody_held_cannot_be_given_back() -> None:
    tasks = scheduler(concurrency={"report": 2})
    tasks.finished("mail")
    with pytest.raises(InvariantBroken, match="report"):
        tasks.finished("report")


@pytest.mark.parametrize(("lanes", "limits"), [({"p1": (1, 0)}, {}), ({"p1": (1, 1)}, {"report": 0})])
def test_weights_and_limits_are_at_least_one(lanes: dict[str, tuple[int, int]], limits: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Scheduler(lanes, limits)


def test_a_lane_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        scheduler().offer("p9", "work", "lost")


class ScheduledWorker(RuleBasedStateMachine):
    """A worker's tasks against a model that decides one by one.

    Goal: the same tasks in the same order as the model in whatever batches they are taken, work conserved, no limit
    passed, and no lane waiting longer than the bound. Method: offers, takes, endings and revocations in any order.
    """

    LIMITS: Mapping[str, int] = {"one": 1, "three": 3}

    @initialize(weights=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), min_size=1, max_size=5))
    def begin(self, weights: list[tuple[int, int]]) -> None:
        lanes = {f"lane{number}": lane for number, lane in enumerate(weights)}
        self.names = list(lanes)
        self.scheduler: Scheduler[Task] = Scheduler(lanes, self.LIMITS)
        self.model = SchedulerModel(lanes, self.LIMITS)
        self.running: list[Task] = []
        self.count = 0
        self.most = dict(self.LIMITS)

    def tasks(self, types: list[str]) -> list[Task]:
        self.count += len(types)
        return [Task(self.count + number, name) for number, name in enumerate(types)]

    kinds = st.sampled_from(["one", "three", "free", "free"])

    @rule(lane=st.integers(0, 4), types=st.lists(kinds, max_size=12))
    def offer_many(self, lane: int, types: list[str]) -> None:
        name = self.names[lane % len(self.names)]
        tasks = self.tasks(types)
        self.scheduler.offer_many(name, [(task.type, task) for task in tasks])
        for task in tasks:
            self.model.offer(name, task)

    @rule(lane=st.integers(0, 4), kind=kinds, first=st.booleans())
    def offer(self, lane: int, kind: str, first: bool) -> None:
        name = self.names[lane % len(self.names)]
        (task,) = self.tasks([kind])
        if first:
            self.scheduler.offer_first(name, kind, task)
            self.model.offer_first(name, task)
        else:
            self.scheduler.offer(name, kind, task)
            self.model.offer(name, task)

    @rule(limit=st.integers(0, 30))
    def take(self, limit: int) -> None:
        taken = self.scheduler.take(limit)
        for place in range(limit):
            expected = self.model.take_one()
            self.no_lane_starves()
            if expected is None:
                assert len(taken) == place
                break
            assert place < len(taken), "a task may run, and none was taken"
            assert taken[place] is expected
        assert len(taken) <= limit
        self.running += taken

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        task = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.scheduler.finished(task.type)
        self.model.finished(task.type)
        if task.type in self.most:
            # What ran when a limit was lowered goes on, and nothing comes in its place.
            held = self.model.running[task.type]
            self.most[task.type] = max(self.model.limits[task.type], min(self.most[task.type], held))
        self.no_lane_starves()

    @precondition(lambda self: self.LIMITS)
    @rule(kind=st.sampled_from(["one", "three"]), limit=st.integers(1, 6))
    def set_limit(self, kind: str, limit: int) -> None:
        self.scheduler.set_limit(kind, limit)
        self.model.set_limit(kind, limit)
        self.most[kind] = max(limit, self.model.running[kind])
        self.no_lane_starves()

    @rule(ranks=st.sets(st.integers(0, 4), max_size=3))
    def pause(self, ranks: set[int]) -> None:
        lanes = frozenset(lane.name for rank, lane in enumerate(self.model.lanes) if rank in ranks)
        self.scheduler.pause(lanes)
        self.model.pause(lanes)
        self.no_lane_starves()

    @rule(weights=st.dictionaries(st.integers(0, 4), st.integers(1, 8), max_size=5))
    def weigh(self, weights: dict[int, int]) -> None:
        named = {lane.name: weights[rank] for rank, lane in enumerate(self.model.lanes) if rank in weights}
        self.scheduler.weigh(named)
        self.model.weigh(named)

    @rule(modulus=st.integers(1, 4))
    def revoke(self, modulus: int) -> None:
        gone = self.scheduler.discard(lambda task: task.number % modulus == 0)
        assert gone == self.model.discard(lambda task: task.number % modulus == 0)

    def no_lane_starves(self) -> None:
        for lane in self.model.lanes:
            assert lane.passed_over <= self.model.bound(lane)
            for task_type in self.LIMITS:
                assert self.model.type_passed_over[task_type, lane.name] <= self.model.bound(lane)

    @invariant()
    def no_more_of_a_type_run_than_may(self) -> None:
        running = Counter(task.type for task in self.running)
        assert all(running[task_type] <= limit for task_type, limit in self.most.items())

    @invariant()
    def it_counts_what_waits(self) -> None:
        counts = {lane.name: self.model.waiting(lane.name) for lane in self.model.lanes}
        assert {name: self.scheduler.waiting(name) for name in counts} == counts
        assert len(self.scheduler) == sum(counts.values())
        assert self.scheduler.lanes_with_work == tuple(name for name, count in counts.items() if count)


class UnlimitedWorker(ScheduledWorker):
    """The same without limits, where tasks are moved in bulk."""

    LIMITS: Mapping[str, int] = {}


TestScheduledWorker = ScheduledWorker.TestCase
TestScheduledWorker.settings = thorough(400, steps=40)
TestUnlimitedWorker = UnlimitedWorker.TestCase
TestUnlimitedWorker.settings = thorough(300, steps=30)
