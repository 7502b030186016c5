"""What an operator may ask of an app's workers, from Python: `app.control.pause(…)`, as the commands do it.

Invariant: one implementation (`monitor.control`), here by the app's settings; each method returns when Kafka has
acknowledged it, whether workers run or not.
"""

from __future__ import annotations

import asyncio
import getpass
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fairlane.monitor.control import CancelAnswer, Controller
from fairlane.topics.clock import now_ms
from fairlane.topics.control import Action, ControlRecord
from fairlane.topics.errors import UsageError

if TYPE_CHECKING:
    from fairlane.app import Fairlane


class Operator:
    """Asks things of the workers of an app's queue.

    Args:
        app: whose queue it is.
        who: for the audit; user and host by default.
        timeout_s: how long one answer of Kafka's may take, seconds.
    """

    def __init__(self, app: Fairlane, *, who: str = "", timeout_s: float = 10.0) -> None:
        self._app = app
        self._who = who or user_and_host()
        self._timeout_s = timeout_s

    def cancel(self, *task_ids: str, reason: str = "") -> list[CancelAnswer]:
        """Cancel tasks: one that waits never runs, one that runs is cut off. Returns what was found of each.

        Args:
            task_ids: of tasks of this queue, whoever enqueued them.
            reason: why, for whoever asks later.

        Raises:
            UsageError: an id is none, or none is given.
            TooManyCancels: more would be in force than workers hold.
            NoControl: the queue has no control topic.
            NotControlled, RightMissing: Kafka refused.
            KafkaUnreachable: no broker answered.
        """
        return self._controller().cancel(task_ids, reason=reason)

    async def acancel(self, *task_ids: str, reason: str = "") -> list[CancelAnswer]:
        """The same as `cancel`, for async code."""
        return await asyncio.to_thread(self.cancel, *task_ids, reason=reason)

    def pause(
        self, lane: str = "", *, task_type: str = "", for_s: float | None = None, reason: str = ""
    ) -> ControlRecord:
        """Start nothing more of a lane, of a type, or of the whole queue, until it is resumed; what runs goes on.

        Args:
            lane: its topic, or its name in the queue (`p3`); "" is the whole queue.
            task_type: in place of a lane.
            for_s: after how long it goes on by itself, seconds; None is not before `resume`.
            reason: why, for whoever asks later.

        Raises:
            UsageError: there is no such lane, the type is none, or the time is none.
            NoControl, NotControlled, RightMissing, KafkaUnreachable: as for `cancel`.
        """
        return self._controller().pause(lane, task_type=task_type, until_ms=_until_ms(for_s), reason=reason)

    async def apause(
        self, lane: str = "", *, task_type: str = "", for_s: float | None = None, reason: str = ""
    ) -> ControlRecord:
        """The same as `pause`, for async code."""
        return await asyncio.to_thread(self.pause, lane, task_type=task_type, for_s=for_s, reason=reason)

    def resume(self, lane: str = "", *, task_type: str = "", reason: str = "") -> tuple[ControlRecord, ...]:
        """Take the pause of a lane, of a type, or of the whole queue, back; returns the pauses that are still in force.

        Args:
            lane: as for `pause`; a lane or type that was paused by itself stays so when the queue goes on.
            task_type: in place of a lane.
            reason: why, for whoever asks later.

        Raises:
            UsageError: it is not paused.
            NoControl, NotControlled, RightMissing, KafkaUnreachable: as for `cancel`.
        """
        return self._controller().resume(lane, task_type=task_type, reason=reason)

    async def aresume(self, lane: str = "", *, task_type: str = "", reason: str = "") -> tuple[ControlRecord, ...]:
        """The same as `resume`, for async code."""
        return await asyncio.to_thread(self.resume, lane, task_type=task_type, reason=reason)

    def weigh(
        self, weights: Mapping[str, int], *, for_s: float | None = None, reason: str = ""
    ) -> tuple[ControlRecord, ...]:
        """Let lanes have other weights than workers are configured with: their shares while all have tasks.

        Args:
            weights: by lane, its topic or its name in the queue (`p3`): a whole number from 1 to 10,000.
            for_s: after how long the configured ones hold again, seconds; None is not before `unweigh`.
            reason: why, for whoever asks later.

        Raises:
            UsageError: there is no such lane, a weight is none, or the time is none.
            NoControl, NotControlled, RightMissing, KafkaUnreachable: as for `cancel`.
        """
        return self._controller().weigh(weights, until_ms=_until_ms(for_s), reason=reason)

    async def aweigh(
        self, weights: Mapping[str, int], *, for_s: float | None = None, reason: str = ""
    ) -> tuple[ControlRecord, ...]:
        """The same as `weigh`, for async code."""
        return await asyncio.to_thread(self.weigh, weights, for_s=for_s, reason=reason)

    def unweigh(self, *lanes: str, reason: str = "") -> tuple[ControlRecord, ...]:
        """Let lanes have the weights again that workers are configured with; returns those that were taken back.

        Args:
            lanes: as for `weigh`; none are all that have another weight.
            reason: why, for whoever asks later.

        Raises:
            UsageError: one of them has the configured weight already.
            NoControl, NotControlled, RightMissing, KafkaUnreachable: as for `cancel`.
        """
        return self._controller().unweigh(lanes, reason=reason)

    async def aunweigh(self, *lanes: str, reason: str = "") -> tuple[ControlRecord, ...]:
        """The same as `unweigh`, for async code."""
        return await asyncio.to_thread(self.unweigh, *lanes, reason=reason)

    def kill(
        self, task_type: str, action: Action, *, where: str = "", for_s: float | None = None, reason: str = ""
    ) -> ControlRecord:
        """Let no task of a type begin any more that fits a condition; what runs goes on.

        Args:
            task_type: of the tasks.
            action: `drop` ends them as cancelled, `dlq` makes them dead letters, which can be put back, and `park` lets
                them wait, as a pause of the type does.
            where: the condition, such as `/to = "x@y"` or `header:tenant = acme`; "" fits all tasks of the type.
            for_s: after how long it ends by itself, seconds; None is not before `unkill`.
            reason: why, for the tasks' last status and whoever asks later.

        Raises:
            UsageError: the type, the action, the condition or the time is none.
            NoControl, NotControlled, RightMissing, KafkaUnreachable: as for `cancel`.
        """
        return self._controller().kill(task_type, action, where=where, until_ms=_until_ms(for_s), reason=reason)

    async def akill(
        self, task_type: str, action: Action, *, where: str = "", for_s: float | None = None, reason: str = ""
    ) -> ControlRecord:
        """The same as `kill`, for async code."""
        return await asyncio.to_thread(self.kill, task_type, action, where=where, for_s=for_s, reason=reason)

    def unkill(self, task_type: str, *, where: str = "", reason: str = "") -> tuple[ControlRecord, ...]:
        """Take kill-switches of a type back; returns those that were. What is dead or cancelled stays so.

        Args:
            task_type: of the tasks.
            where: only the one with this condition; "" is all of the type.
            reason: why, for whoever asks later.

        Raises:
            UsageError: there is none.
            NoControl, NotControlled, RightMissing, KafkaUnreachable: as for `cancel`.
        """
        return self._controller().unkill(task_type, where=where, reason=reason)

    async def aunkill(self, task_type: str, *, where: str = "", reason: str = "") -> tuple[ControlRecord, ...]:
        """The same as `unkill`, for async code."""
        return await asyncio.to_thread(self.unkill, task_type, where=where, reason=reason)

    def demote(self, task_type: str, to: str, *, for_s: float | None = None, reason: str = "") -> ControlRecord:
        """Move the tasks of a type out of all lanes that are more urgent than one: those that wait, and new ones.

        Args:
            task_type: of the tasks.
            to: the lane, as for `pause`; one of the queue's own.
            for_s: after how long it ends by itself, seconds; None is not before `undemote`. What was moved stays moved.
            reason: why, for whoever asks later.

        Raises:
            UsageError: the type or the time is none, there is no such lane, or it is somebody else's topic.
            NoControl, NotControlled, RightMissing, KafkaUnreachable: as for `cancel`.
        """
        return self._controller().demote(task_type, to, until_ms=_until_ms(for_s), reason=reason)

    async def ademote(self, task_type: str, to: str, *, for_s: float | None = None, reason: str = "") -> ControlRecord:
        """The same as `demote`, for async code."""
        return await asyncio.to_thread(self.demote, task_type, to, for_s=for_s, reason=reason)

    def undemote(self, task_type: str, *, reason: str = "") -> tuple[ControlRecord, ...]:
        """Let new tasks of a type stay in their lanes again; returns what was taken back.

        Args:
            task_type: of the tasks.
            reason: why, for whoever asks later.

        Raises:
            UsageError: it is not demoted.
            NoControl, NotControlled, RightMissing, KafkaUnreachable: as for `cancel`.
        """
        return self._controller().undemote(task_type, reason=reason)

    async def aundemote(self, task_type: str, *, reason: str = "") -> tuple[ControlRecord, ...]:
        """The same as `undemote`, for async code."""
        return await asyncio.to_thread(self.undemote, task_type, reason=reason)

    def list(self) -> tuple[ControlRecord, ...]:
        """What is in force: pauses first, cancels last, the oldest of them first.

        Raises:
            NoControl, ReadIncomplete, RightMissing, KafkaUnreachable: it cannot be read.
        """
        return self._controller().in_force()

    async def alist(self) -> tuple[ControlRecord, ...]:
        """The same as `list`, for async code."""
        return await asyncio.to_thread(self.list)

    def _controller(self) -> Controller:
        app = self._app
        return Controller(app.connection, app.names, app.lanes, who=self._who, via="python", timeout_s=self._timeout_s)


def _until_ms(for_s: float | None) -> int:
    if for_s is None:
        return 0
    if not 0 < for_s < 1e9:
        raise UsageError(f"a time of {for_s} s is none", "Give seconds, more than 0")
    return now_ms() + round(for_s * 1000)


def user_and_host() -> str:
    """Who we are, as far as the system knows."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return f"unknown@{socket.gethostname()}"
