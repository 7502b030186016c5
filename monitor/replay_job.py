"""What a replay is: which letters, changed how, up to where; and what it makes of each.

Invariant: no I/O of its own. A job is what is said here and nothing else: the ends of the DLQ are fixed when it is
made, so that letters that die meanwhile are not of it, and its id follows from all of it: the same job again goes on
where it was, and no letter is sent twice by one job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from fairlane.monitor.dlq import Dealt
from fairlane.monitor.edit import Edit, Unfit, edited, with_payload
from fairlane.monitor.job_id import job_id
from fairlane.monitor.letter import Letter
from fairlane.monitor.letter_filter import LetterFilter
from fairlane.topics import wire
from fairlane.topics.audit import PURGE
from fairlane.topics.errors import MalformedRecord
from fairlane.topics.names import Lane, QueueNames
from fairlane.topics.routing import lane_for

LOOPS: Final = 3
"""How often a task is put back that dies again and again."""

Validate = Callable[[str, bytes], str]
"""Says what is wrong with a payload for a task type, "" if nothing is."""

Fate = Literal["sent", "dealt", "looping", "unfit"]

_SHOWN: Final = 10


class ReplayJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A replay.

    Attributes:
        queue: whose letters.
        filter: which.
        ends: by partition of the DLQ, as text, the offset before which letters are of it.
        edit: what to change in their payloads, or None.
        again: also those that were put back before, not by this job.
        loops: a letter of a task that was put back so often is left out; 0 leaves out none.
        limit: how many at most, the oldest; 0 is all.
        skip_unfit: leave out what would not do, instead of sending nothing.
        run: how many jobs like it have ended before.
    """

    queue: str
    filter: LetterFilter = LetterFilter()
    ends: dict[str, int]
    edit: Edit | None = None
    again: bool = False
    loops: int = LOOPS
    limit: int = 0
    skip_unfit: bool = False
    run: int = 0

    @property
    def id(self) -> str:
        """12 hexadecimal digits that follow from all of it."""
        return job_id(self)


class Planned(msgspec.Struct, frozen=True):
    """A letter as it is to be sent: the lane it goes to, and its value, the one that it has unless it is edited."""

    letter: Letter
    to: str
    value: bytes | None
    payload: bytes
    edited: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a job would do, as a dry run tells.

    Attributes:
        job: which.
        count: how many letters would be sent.
        kinds: how many of each task type and reason.
        lanes: how many to each lane.
        dealt: how many fit but were dealt with before.
        looping: how many fit but died again after so many replays that they are left out.
        unfit: how many would not do as they would be sent.
        problems: of some of those, which and why.
        first: the first that would be sent.
    """

    job: ReplayJob
    count: int = 0
    kinds: tuple[tuple[str, str, int], ...] = ()
    lanes: dict[str, int] = {}
    dealt: int = 0
    looping: int = 0
    unfit: int = 0
    problems: tuple[str, ...] = ()
    first: tuple[Planned, ...] = ()


@dataclass
class Selection:
    """Goes over the letters of a job, the oldest first, and says of each what becomes of it.

    Args:
        job: which.
        names: of the queue.
        lanes: of the queue.
        dealt: what the audit says of letters, and of those of this job, before it goes on.
        validate: what the handlers would say of a payload; None where it is not known.
        shown: how many to remember for a dry run.
    """

    job: ReplayJob
    names: QueueNames
    lanes: Sequence[Lane]
    dealt: Dealt
    validate: Validate | None = None
    shown: int = _SHOWN
    fates: Counter[Fate] = field(default_factory=Counter)
    _kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    _to: Counter[str] = field(default_factory=Counter)
    _problems: list[str] = field(default_factory=list)
    _first: list[Planned] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether the job has as many as it may have, with those that it sent before it was stopped."""
        return bool(self.job.limit) and self.fates["sent"] + len(self.dealt.by_job) >= self.job.limit

    def judge(self, letter: Letter) -> Planned | None:
        """The letter as it is to be sent; None where it is not of the job, or left out."""
        if not self.job.filter.fits(letter) or self.full:
            return None
        fate, planned = self._fate(letter)
        self.fates[fate] += 1
        if planned is not None:
            self._kinds[letter.type, letter.reason] += 1
            self._to[planned.to] += 1
            if len(self._first) < self.shown:
                self._first.append(planned)
        return planned

    def _fate(self, letter: Letter) -> tuple[Fate, Planned | None]:
        before = self.dealt.newest.get(letter.place)
        again = self.job.again and letter.place not in self.dealt.by_job
        if before is not None and (before.action == PURGE or not again):
            return "dealt", None
        if self.job.loops and letter.replays >= self.job.loops:
            return "looping", None
        try:
            return "sent", self._prepare(letter)
        except Unfit as unfit:
            if len(self._problems) < _SHOWN:
                self._problems.append(f"{letter.place}: {unfit}")
            return "unfit", None

    def _prepare(self, letter: Letter) -> Planned:
        to = lane_of(letter, self.names, self.lanes)
        value, payload = letter.record.value, letter.payload
        task_type = letter.type
        if self.job.edit is not None:
            payload = edited(letter, self.job.edit)
            value = with_payload(letter, payload)
            task_type, payload = self._read(letter, to, value)
        if self.validate is not None and (problem := self.validate(task_type, payload)):
            raise Unfit(problem)
        return Planned(letter, to, value, payload, self.job.edit is not None)

    def _read(self, letter: Letter, to: str, value: bytes) -> tuple[str, bytes]:
        """Type and payload as a worker would read them from the edited record."""
        record = letter.record
        lane = next(lane for lane in self.lanes if lane.topic == to)
        default_type = lane.default_type or (None if self.names.owns(lane) else letter.type or "unknown")
        try:
            task = wire.decode(
                to, 0, 0, record.timestamp_ms, record.key, value, wire.replay(record.headers),
                lane=to, priority=lane.level, default_type=default_type,
            )  # fmt: skip
        except MalformedRecord as error:
            raise Unfit(f"it would be no task: {error}") from None
        return task.type, task.payload

    def plan(self) -> Plan:
        """What was found."""
        return Plan(
            job=self.job,
            count=self.fates["sent"],
            kinds=tuple((*kind, count) for kind, count in self._kinds.most_common()),
            lanes=dict(self._to.most_common()),
            dealt=self.fates["dealt"],
            looping=self.fates["looping"],
            unfit=self.fates["unfit"],
            problems=tuple(self._problems),
            first=tuple(self._first),
        )


def lane_of(letter: Letter, names: QueueNames, lanes: Sequence[Lane]) -> str:
    """The lane that a letter came from: the one it names, else the one it was read from, else the one of its priority.

    Only a lane of the queue will do: anybody may have written the header of a malformed record.
    """
    topics = {lane.topic for lane in lanes}
    if letter.lane in topics:
        return letter.lane
    if letter.original is not None and letter.original.topic in topics:
        return letter.original.topic
    own = [lane for lane in lanes if names.owns(lane)] or lanes
    return lane_for(letter.priority, own).topic
