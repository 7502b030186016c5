"""Actions on many letters that run while nobody waits for them.

Invariant: one at a time, since all replays and purges of a queue share a transactional id and a second one would end
the first. A job is in the audit whatever becomes of this process; what is here is its progress.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec
from starlette.exceptions import HTTPException

from fairlane.monitor.job_control import JobControl
from fairlane.topics.errors import FairlaneError

_log = logging.getLogger("fairlane.monitor")

_REMEMBERED: Final = 100


class JobItem(msgspec.Struct, frozen=True, kw_only=True):
    """A job of this monitor's.

    Attributes:
        done: letters dealt with so far.
        total: letters that it will have dealt with at its end; 0 if that is not known.
        problem: why it failed, or "".
    """

    id: str
    action: Literal["replay", "purge"]
    who: str
    state: Literal["running", "paused", "ended", "stopped", "failed"]
    done: int = 0
    total: int = 0
    problem: str = ""


@dataclass
class Job:
    """One job; its thread writes, others read."""

    id: str
    action: Literal["replay", "purge"]
    who: str
    control: JobControl = field(default_factory=JobControl)
    done: int = 0
    total: int = 0
    result: Literal["", "ended", "stopped", "failed"] = ""
    problem: str = ""

    @property
    def item(self) -> JobItem:
        """As it is now."""
        return JobItem(
            id=self.id,
            action=self.action,
            who=self.who,
            state=self.result or ("paused" if self.control.paused else "running"),
            done=self.done,
            total=self.total,
            problem=self.problem,
        )


class Jobs:
    """The jobs of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}

    def start(self, job: Job, run: Callable[[Job], bool]) -> JobItem:
        """Run a job in a thread of its own; `run` says whether it came to its end.

        Raises:
            HTTPException: another one runs.
        """
        with self._lock:
            if busy := next((other.id for other in self._jobs.values() if not other.result), ""):
                raise HTTPException(409, f"job {busy} runs; a queue's letters are dealt with by one job at a time")
            self._jobs.pop(job.id, None)
            self._jobs[job.id] = job
            for old in list(self._jobs)[:-_REMEMBERED]:
                del self._jobs[old]
        threading.Thread(target=self._run, args=(job, run), name=f"fairlane-job-{job.id}", daemon=True).start()
        return job.item

    @staticmethod
    def _run(job: Job, run: Callable[[Job], bool]) -> None:
        try:
            job.result = "ended" if run(job) else "stopped"
        except FairlaneError as error:
            job.problem, job.result = str(error), "failed"
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it
            _log.exception("job %s failed", job.id)
            job.problem, job.result = type(error).__name__, "failed"

    def get(self, job_id: str) -> Job:
        """A job.

        Raises:
            HTTPException: this process has none of that id.
        """
        job = self._jobs.get(job_id)
        if job is None:
            raise HTTPException(404, "this monitor ran no such job; the audit has those of others")
        return job

    def all(self) -> tuple[JobItem, ...]:
        """The jobs, the newest first."""
        return tuple(job.item for job in reversed(list(self._jobs.values())))

    def stop(self) -> None:
        """Ask all that run to end."""
        for job in list(self._jobs.values()):
            job.control.stop()
