"""Schedules on the wire: what is asked of them in `<queue>.events`, and how far they are in `<queue>.state`.

Invariant: the key of both is `schedule:<name>`, so all records of a schedule are in one partition, in one order, and of
its states the newest stays. Readers accept unknown fields, refuse an unknown version, and are bounded: a record that is
larger, or says more, than these bounds is none.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Final, Literal

import msgspec

from fairlane.topics.errors import UsageError
from fairlane.topics.events import UNREADABLE, Whole
from fairlane.topics.headers import MAX_NAME
from fairlane.topics.rfc3339 import format_ms
from fairlane.topics.timetable import Timetable, timetable

KIND: Final = "schedule"
NAME_MAX: Final = 200
PAYLOAD_MAX_BYTES: Final = 64 << 10
RECORD_MAX_BYTES: Final = 256 << 10
JITTER_MAX_MS: Final = 86_400_000
ALL_MAX: Final = 1_000
"""So many instants that were missed are made up for at most."""
LATE_MS: Final = 60_000
"""Up to so late an instant is on time, whatever the policy: a new owner takes over within that."""

Misfire = Literal["skip", "latest", "all"]
"""What becomes of instants that nobody was there for: none of them, the newest, or up to 1,000 of them are made up for.
"""

Action = Literal["define", "pause", "resume", "remove"]

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_MAX, pattern=r"^[A-Za-z0-9._/-]+$")]
Text = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Schedule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The definition of a schedule. What has its default is left out.

    Attributes:
        name: of the schedule, unique in the queue.
        type: of the tasks that it makes.
        cron: expression of five fields, or six with the seconds first; "" where there is a period.
        every_ms: its period, milliseconds; 0 where there is an expression.
        tz: time zone that the expression goes by.
        misfire: what becomes of instants that nobody was there for.
        jitter_ms: its tasks are due up to so much later, by what name and instant draw.
        payload: of its tasks, bytes; base64 in JSON.
        content_type: media type of the payload.
        priority: of its tasks.
        key: of their records; None is none.
        max_attempts: 0 leaves it to the handler.
        timeout_ms: 0 leaves it to the handler.
        expires_ms: after its instant a task is not worth a start; 0 is never.
        source: for `ce_source`.
        by: whose it is: the `app` defines it again at each start, the others are there until they are removed.
        defined_ms: when it was deployed, or asked for, Unix ms: of two definitions the later one counts.
    """

    name: Name
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
    cron: Text = ""
    every_ms: Natural = 0
    tz: Text = "UTC"
    misfire: Misfire = "latest"
    jitter_ms: Annotated[int, msgspec.Meta(ge=0, le=JITTER_MAX_MS)] = 0
    payload: Annotated[bytes, msgspec.Meta(max_length=PAYLOAD_MAX_BYTES)] = b"{}"
    content_type: Text = "application/json"
    priority: Whole = 3
    key: Annotated[bytes, msgspec.Meta(min_length=1, max_length=4_096)] | None = None
    max_attempts: Natural = 0
    timeout_ms: Natural = 0
    expires_ms: Natural = 0
    source: Text = ""
    by: Text = "app"
    defined_ms: Natural = 0

    @property
    def timetable(self) -> Timetable:
        """Its instants.

        Raises:
            UsageError: it has none.
        """
        return timetable(cron=self.cron, every_ms=self.every_ms, tz=self.tz)

    @property
    def when(self) -> str:
        """When it is due, for people."""
        return f"every {self.every_ms / 1000:g} s" if self.every_ms else f"{self.cron} {self.tz}"

    def task_id(self, instant_ms: int) -> str:
        """The id of the task of an instant: whoever makes it, it is the same."""
        return f"{self.name}@{format_ms(instant_ms)}"

    def due_ms(self, instant_ms: int) -> int:
        """When the task of an instant is due: then, or up to the jitter later, the same whoever asks."""
        if not self.jitter_ms:
            return instant_ms
        drawn = int.from_bytes(sha256(self.task_id(instant_ms).encode()).digest()[:8], "big")
        return instant_ms + drawn % (self.jitter_ms + 1)


class ScheduleEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """One thing that is asked of a schedule.

    Attributes:
        action: `define`, `pause`, `resume` or `remove`.
        name: of the schedule.
        at_ms: when it was asked, Unix ms.
        who: user and host, as far as they are known.
        schedule: of `define`, the definition.
    """

    action: Action
    name: Name
    at_ms: Natural = 0
    who: Annotated[str, msgspec.Meta(max_length=300)] = ""
    schedule: Schedule | None = None


class ScheduleState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """A schedule as its owner last wrote it.

    Attributes:
        schedule: its definition.
        last_ms: the newest instant that is dealt with: no instant up to it is made a task again.
        fired: how many tasks it has made.
        paused_ms: since when it is paused; 0 is not.
        paused_by: who paused it.
        removed_ms: when it was removed; 0 is not. It is remembered for a while, so that an old definition that comes
            late does not bring it back.
    """

    schedule: Schedule
    last_ms: Natural
    fired: Natural = 0
    paused_ms: Natural = 0
    paused_by: Annotated[str, msgspec.Meta(max_length=300)] = ""
    removed_ms: Natural = 0


_events = msgspec.json.Decoder(ScheduleEvent)
_states = msgspec.json.Decoder(ScheduleState)
_encoder = msgspec.json.Encoder()


def key_of(name: str) -> bytes:
    """Key of the records of a schedule."""
    return f"{KIND}:{name}".encode()


def encode(record: ScheduleEvent | ScheduleState) -> bytes:
    """The JSON of a record."""
    return _encoder.encode(record)


def decode_event(name: str, value: bytes) -> ScheduleEvent | None:
    """What is asked of the schedule of this name, or None where the bytes are no such thing."""
    if len(value) > RECORD_MAX_BYTES:
        return None
    try:
        event = _events.decode(value)
    except UNREADABLE:
        return None
    fits = event.name == name and (event.schedule is None) is (event.action != "define")
    return event if fits and (event.schedule is None or event.schedule.name == name) else None


def decode_state(name: str, value: bytes) -> ScheduleState | None:
    """The state of the schedule of this name, or None where the bytes are none."""
    if len(value) > RECORD_MAX_BYTES:
        return None
    try:
        state = _states.decode(value)
    except UNREADABLE:
        return None
    return state if state.schedule.name == name else None


def checked(schedule: Schedule) -> Schedule:
    """The same, if a worker can follow it.

    Raises:
        UsageError: its name is none, it is never due, or one of its values is out of range.
    """
    try:
        msgspec.convert(msgspec.to_builtins(schedule), Schedule)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"schedule {schedule.name!r:.100} is none: {error}", "Names are of A-Z a-z 0-9 . _ / -"
        ) from None
    _ = schedule.timetable
    return schedule
