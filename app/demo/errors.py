"""What can go wrong in the demo; part of the tree of fairlane.topics.errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fairlane.topics.errors import FairlaneError


@dataclass(eq=False)
class DemoWrong(FairlaneError):
    """The demo did not end as it should; `problems` says in what."""

    problems: Sequence[str]

    def __str__(self) -> str:
        return "the demo did not end as it should: " + "; ".join(self.problems)


@dataclass(eq=False)
class WorkerFailed(FairlaneError):
    """A worker of the demo ended by itself, with `status`; `log_end` is the end of what it logged."""

    worker: str
    status: int
    log_end: str

    def __str__(self) -> str:
        return f"{self.worker} ended by itself with exit code {self.status}. The end of its log:\n{self.log_end}"
