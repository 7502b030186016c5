"""The scheduler as its docstring tells it, one task at a time and without a thought for speed; it counts who waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass
class Task:
    number: int
    type: str


@dataclass
class LaneModel:
    name: str
    weight: int
    line: list[Task] = field(default_factory=list)
    admitted: list[Task] = field(default_factory=list)
    tokens: int = 0
    passed_over: int = 0
    """Tasks of other lanes taken since this one had a runnable task and was not served."""


class SchedulerModel:
    def __init__(self, lanes: Mapping[str, tuple[int, int]], limits: Mapping[str, int]) -> None:
        ordered = sorted(lanes.items(), key=lambda lane: -lane[1][0])
        self.lanes = [LaneModel(name, weight, tokens=weight) for name, (_, weight) in ordered]
        self.limits = dict(limits)
        self.paused: frozenset[str] = frozenset()
        self.running = dict.fromkeys(limits, 0)
        self.aside: dict[tuple[str, str], list[Task]] = {(t, name): [] for t in limits for name in lanes}
        self.type_tokens = {(t, lane.name): lane.weight for t in limits for lane in self.lanes}
        self.type_passed_over = dict.fromkeys(self.type_tokens, 0)

    def bound(self, lane: LaneModel) -> int:
        """(W - w) + U: how many tasks of others may come first."""
        place = self.lanes.index(lane)
        return sum(other.weight for other in self.lanes if other is not lane) + sum(
            other.weight for other in self.lanes[:place]
        )

    def lane(self, name: str) -> LaneModel:
        return next(lane for lane in self.lanes if lane.name == name)

    def offer(self, name: str, task: Task) -> None:
        self.lane(name).line.append(task)
        self.step_aside()

    def offer_first(self, name: str, task: Task) -> None:
        aside = self.aside.get((task.type, name))
        (aside or self.lane(name).line).insert(0, task)
        self.step_aside()

    def blocked(self, task_type: str) -> bool:
        return task_type in self.limits and self.running[task_type] >= self.limits[task_type]

    def step_aside(self) -> None:
        for lane in self.lanes:
            while lane.line and self.blocked(lane.line[0].type):
                task = lane.line.pop(0)
                self.aside[task.type, lane.name].append(task)

    def take_one(self) -> Task | None:
        runnable = [lane for lane in self.lanes if (lane.admitted or lane.line) and lane.name not in self.paused]
        if not runnable:
            return None
        if not any(lane.tokens for lane in runnable):
            for lane in self.lanes:
                if lane.name not in self.paused:
                    lane.tokens = lane.weight
        lane = next(lane for lane in runnable if lane.tokens)
        lane.tokens -= 1
        for other in self.lanes:
            other.passed_over = other.passed_over + 1 if other in runnable and other is not lane else 0
        if lane.admitted:
            return lane.admitted.pop(0)
        task = lane.line.pop(0)
        if task.type in self.limits:
            self.running[task.type] += 1
        self.step_aside()
        for other in self.lanes:
            if not (other.admitted or other.line):
                other.passed_over = 0
        return task

    def pause(self, lanes: frozenset[str]) -> None:
        self.paused = lanes
        for lane in self.lanes:
            if lane.name in lanes:
                lane.passed_over = 0
                while lane.admitted:
                    task = lane.admitted.pop()
                    self.running[task.type] -= 1
                    self.aside[task.type, lane.name].insert(0, task)
                for task_type in self.limits:
                    self.type_passed_over[task_type, lane.name] = 0
        for task_type in self.limits:
            self.admit(task_type)
        self.step_aside()

    def weigh(self, weights: Mapping[str, int]) -> None:
        for lane in self.lanes:
            lane.weight = weights.get(lane.name, lane.weight)
            lane.tokens = min(lane.tokens, lane.weight)
            lane.passed_over = 0
            for task_type in self.limits:
                tokens = self.type_tokens[task_type, lane.name]
                self.type_tokens[task_type, lane.name] = min(tokens, lane.weight)
                self.type_passed_over[task_type, lane.name] = 0
        self.step_aside()

    def finished(self, task_type: str) -> None:
        if task_type in self.limits:
            self.running[task_type] -= 1
            self.admit(task_type)

    def set_limit(self, task_type: str, limit: int) -> None:
        self.limits[task_type] = limit
        self.admit(task_type)
        self.step_aside()

    def admit(self, task_type: str) -> None:
        while not self.blocked(task_type):
            waiting = [each for each in self.lanes if self.aside[task_type, each.name] and each.name not in self.paused]
            if not waiting:
                return
            if not any(self.type_tokens[task_type, lane.name] for lane in waiting):
                for lane in self.lanes:
                    self.type_tokens[task_type, lane.name] = lane.weight
            chosen = next(lane for lane in waiting if self.type_tokens[task_type, lane.name])
            self.type_tokens[task_type, chosen.name] -= 1
            for lane in self.lanes:
                passed = lane in waiting and lane is not chosen
                before = self.type_passed_over[task_type, lane.name]
                self.type_passed_over[task_type, lane.name] = before + 1 if passed else 0
            chosen.admitted.append(self.aside[task_type, chosen.name].pop(0))
            self.running[task_type] += 1

    def discard(self, predicate: Callable[[Task], bool]) -> list[Task]:
        gone: list[Task] = []
        for lane in self.lanes:
            for task in filter(predicate, lane.admitted):
                self.running[task.type] -= 1
            queues = [lane.admitted, *(self.aside[t, lane.name] for t in self.limits), lane.line]
            for queue in queues:
                gone += filter(predicate, queue)
                queue[:] = [task for task in queue if not predicate(task)]
        for task_type in self.limits:
            self.admit(task_type)
        self.step_aside()
        for lane in self.lanes:
            if not (lane.admitted or lane.line):
                lane.passed_over = 0
        return gone

    def waiting(self, name: str) -> int:
        lane = self.lane(name)
        return len(lane.admitted) + len(lane.line) + sum(len(self.aside[t, name]) for t in self.limits)
