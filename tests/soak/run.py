"""A soak: the load runs, everything is looked at every few seconds, and in the end each series is judged.

Invariant: it is no success if any series grows beyond its bound, a process died, a task was lost, ended twice or ended
otherwise than it should, or somebody did not end in good order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from soak.census import Account, Census
from soak.processes import children, offspring, sample
from soak.slope import Bound, Slope, judge
from soak.stage import Stage, stage

WARM_UP: Final = 0.35
"""The part of a short run in which caches fill, pools grow and handlers are first seen."""
WARM_UP_MOST_S: Final = 600.0
DRAINED_S: Final = 180.0

BOUNDS: Final = {
    # What an hour may add must be what a month can bear, were it not noise; the steps are those of malloc's arenas.
    "memory, MiB": Bound(per_hour=0.05, growth=4),
    "threads": Bound(per_hour=0.05, growth=2),
    "open files": Bound(per_hour=0.05, growth=3),
    "children": Bound(per_hour=0.1, growth=2),
    "memory of children, MiB": Bound(per_hour=0.1, growth=20),
    "open tasks": Bound(per_hour=0.2, growth=300),
    "CPU of a task, ms": Bound(per_hour=0.3, growth=0.5),
}

Series = dict[tuple[str, str], list[tuple[float, float]]]
"""Samples by whose they are and what they are of: seconds since the load began, and value."""


@dataclass(frozen=True)
class Result:
    """What a soak found.

    Attributes:
        seconds: how long the load ran.
        warm_up_s: how much of it was not judged.
        series: all samples.
        slopes: what was made of each.
        account: of the tasks, in the end.
        throughput: tasks that ended in a second, after the warm-up.
        failures: what is wrong; empty where nothing is.
    """

    seconds: float
    warm_up_s: float
    series: Series
    slopes: dict[tuple[str, str], Slope]
    account: Account
    throughput: float
    failures: tuple[str, ...]


class Soak:
    """One soak.

    Args:
        seconds: how long the load runs.
        rate: tasks a second.
        every_s: time between two samples, seconds.
        delays_s: of the delayed tasks.
        say: told a line now and then.
    """

    def __init__(
        self, seconds: float, rate: float, every_s: float, delays_s: Sequence[float], say: Callable[[str], None]
    ) -> None:
        self._seconds = seconds
        self._rate = rate
        self._every_s = every_s
        self._delays_s = delays_s
        self._say = say
        self._series: Series = {}
        self._failures: list[str] = []

    def run(self, bootstrap: str, folder: Path) -> Result:
        """Do it.

        Args:
            bootstrap: servers of a Kafka.
            folder: for logs.
        """
        with stage(bootstrap, self._rate, self._delays_s, folder) as on:
            census = Census(on.connection, on.names, on.acknowledged)
            try:
                self._watch(on, census)
                account = self._end(on, census)
            finally:
                census.close()
        warm_up_s = min(self._seconds * WARM_UP, WARM_UP_MOST_S)
        slopes = {
            key: judge([point for point in points if point[0] >= warm_up_s], BOUNDS[key[1]])
            for key, points in self._series.items()
            if key[1] in BOUNDS
        }
        self._failures += [f"{' '.join(key)}: grows" for key, slope in slopes.items() if slope.grows]
        ended = [point for point in self._series.get(("queue", "ended"), ()) if point[0] >= warm_up_s]
        throughput = (ended[-1][1] - ended[0][1]) / (ended[-1][0] - ended[0][0]) if len(ended) > 1 else 0.0
        return Result(self._seconds, warm_up_s, self._series, slopes, account, throughput, tuple(self._failures))

    def _watch(self, on: Stage, census: Census) -> None:
        """Sample until the time is over, or a process has died."""
        began = time.monotonic()
        said = began
        used = {name: 0.0 for name in on.pids if name.startswith("worker-")}
        ended = 0
        for turn in range(1, int(self._seconds / self._every_s) + 1):
            time.sleep(max(0.0, began + turn * self._every_s - time.monotonic()))
            at = time.monotonic() - began
            below = children()
            cpu_s = 0.0
            for name, pid in on.pids.items():
                try:
                    found = sample(pid, offspring(pid, below))
                except OSError:
                    self._failures.append(f"{name} ended after {at:.0f} s")
                    return
                self._note(at, name, "memory, MiB", found.resident_mib)
                self._note(at, name, "threads", found.threads)
                self._note(at, name, "open files", found.files)
                self._note(at, name, "children", found.children)
                if name in used:
                    self._note(at, name, "memory of children, MiB", found.children_mib)
                    cpu_s += found.cpu_s - used[name]
                    used[name] = found.cpu_s
            account = census.account()
            self._note(at, "queue", "open tasks", account.open)
            self._note(at, "queue", "ended", account.ended)
            if account.ended > ended:
                self._note(at, "workers", "CPU of a task, ms", 1_000 * cpu_s / (account.ended - ended))
            ended = account.ended
            if time.monotonic() - said >= 60:
                said = time.monotonic()
                memory = ", ".join(f"{name} {self._series[name, 'memory, MiB'][-1][1]:.1f}" for name in on.pids)
                self._say(f"{at / 60:.0f} min: {ended:,} ended, {account.open:,} open; MiB: {memory}")

    def _note(self, at: float, whose: str, what: str, value: float) -> None:
        self._series.setdefault((whose, what), []).append((round(at, 2), round(value, 3)))

    def _end(self, on: Stage, census: Census) -> Account:
        """No more load, all that there is to its end, and everybody home."""
        self._expect_exit("the producer", on.stop_producer())
        deadline = time.monotonic() + DRAINED_S
        account = census.account()
        while account.open and time.monotonic() < deadline:
            time.sleep(0.1)
            account = census.account()
        self._expect_exit("the pool of workers", on.stop_workers())
        for what in ("open", "duplicates", "wrong", "unknown"):
            if getattr(account, what):
                self._failures.append(f"{getattr(account, what)} tasks: {what}")
        return account

    def _expect_exit(self, who: str, code: int) -> None:
        if code:
            self._failures.append(f"{who} ended with {code}")


def as_json(result: Result) -> dict[str, Any]:
    """A result for `out/soak.json`."""
    return {
        "seconds": result.seconds,
        "warm_up_s": result.warm_up_s,
        "throughput": round(result.throughput, 1),
        "account": asdict(result.account),
        "lost": result.account.open,
        "duplicates": result.account.duplicates,
        "failures": list(result.failures),
        "slopes": [{"whose": key[0], "what": key[1], **asdict(slope)} for key, slope in result.slopes.items()],
        "samples": [{"whose": key[0], "what": key[1], "points": points} for key, points in result.series.items()],
    }


def as_markdown(result: Result) -> str:
    """A result for whoever started it."""
    account = result.account
    lines = [
        f"{result.seconds / 60:g} minutes, the first {result.warm_up_s / 60:.1f} to warm up: "
        f"{account.acknowledged:,} tasks enqueued and {account.followed:,} by outcomes, {account.ended:,} ended, "
        f"{result.throughput:.0f} a second; lost {account.open}, duplicates {account.duplicates}.",
        "",
        "| whose | what | level | slope, % an hour | at least | growth | bound | finds, an hour | |",
        "|---|---|---:|---:|---:|---:|---|---:|---|",
    ]
    for (whose, what), slope in result.slopes.items():
        verdict = ("GROWS" if slope.grows else "ok") if slope.judged else "too short to tell"
        bound = f"{100 * slope.bound.per_hour:g} % and {slope.bound.growth:g}"
        lines.append(
            f"| {whose} | {what} | {slope.level:.1f} | {100 * slope.per_hour:+.1f} | {100 * slope.least_per_hour:+.1f} "
            f"| {slope.growth:+.2f} | {bound} | {slope.found_from:.1f} | {verdict} |"
        )
    lines += ["", *(f"FAILED: {failure}" for failure in result.failures)]
    return "\n".join(lines).rstrip()
