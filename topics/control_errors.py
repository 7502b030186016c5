"""What goes wrong when a queue is controlled, and what a cancelled task is to whoever waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fairlane.topics.errors import FairlaneError, TaskFailed


@dataclass(eq=False)
class TaskCancelled(TaskFailed):
    """The task was cancelled by an operator: it has no result, and no attempt of it follows."""

    def __str__(self) -> str:
        error = f": {self.error_type}: {self.error_message}" if self.error_type else ""
        return f"task {self.task_id} was cancelled" + (f" {self.reason}" if self.reason else "") + error


@dataclass(eq=False)
class TooManyCancels(FairlaneError):
    """Together with the `held` cancels in force, `asked` more are more than `most`, which every worker holds."""

    queue: str
    held: int
    asked: int
    most: int

    def __str__(self) -> str:
        return (
            f"queue {self.queue!r} has {self.held:,} cancels in force, and with {self.asked:,} more there would be over"
            f" {self.most:,}. Pause the lane that they are in instead (`fairlane pause --lane`), or end them in their "
            "handler"
        )


@dataclass(eq=False)
class NotControlled(FairlaneError):
    """Kafka did not take a record that controls the queue, or of its audit; `done` are in force all the same."""

    exit_code: ClassVar[int] = 3
    topic: str
    code: str
    detail: str
    done: int = 0

    def __str__(self) -> str:
        before = f"{self.done} are in force all the same. " if self.done else ""
        refused = f"Kafka did not take a record of {self.topic}: {self.code} ({self.detail})"
        return f"{refused}. {before}Ask again: it does no harm"


@dataclass(eq=False)
class NoControl(FairlaneError):
    """The queue has no control topic: it was made by an older fairlane, and its workers hear nothing of operators."""

    exit_code: ClassVar[int] = 4
    queue: str
    topic: str

    def __str__(self) -> str:
        return (
            f"queue {self.queue!r} has no topic {self.topic}, so nobody would hear of it. "
            f"`fairlane topics create --queue {self.queue}` makes it; workers follow it from their next start"
        )


@dataclass(eq=False)
class NoSchedules(FairlaneError):
    """The queue lacks a topic that schedules need: it was made by an older fairlane."""

    exit_code: ClassVar[int] = 4
    queue: str
    topic: str

    def __str__(self) -> str:
        return (
            f"queue {self.queue!r} has no topic {self.topic}, so it has no schedules. "
            f"`fairlane topics create --queue {self.queue}` makes it; workers own schedules from their next start"
        )
