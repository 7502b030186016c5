"""The report of a storm: Markdown for people, JSON for whoever compares.

Invariant: what both say is the accounts, and nothing is rounded up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from chaos.accounts import Accounts, Fault

SHOWN: Final = 10


class Report(msgspec.Struct, frozen=True):
    """A storm that is over.

    Attributes:
        seed: it was drawn from.
        minutes: it lasted.
        accounts: what became of the tasks.
        faults: that were injected.
        drained_s: how long it took until nothing was left to do once all was mended; None if it was not in time.
        failures: what else fairlane did that it must not: processes that ended by themselves, or did not end.
    """

    seed: int
    minutes: float
    accounts: Accounts
    faults: Sequence[Fault]
    drained_s: float | None
    failures: Sequence[str]

    @property
    def is_good(self) -> bool:
        """Whether all that must hold did."""
        return not self.accounts.violations and not self.failures and self.drained_s is not None

    def json(self) -> dict[str, Any]:
        """The contents of `out/chaos.json`."""
        accounts = self.accounts
        return {
            "seed": self.seed,
            "minutes": self.minutes,
            "acknowledged": accounts.acknowledged,
            "stored": accounts.stored,
            "outcomes": accounts.outcomes,
            "unfinished": accounts.unfinished,
            "lost": len(accounts.lost),
            "outcome_duplicates": len(accounts.outcome_duplicates),
            "children_wrong": len(accounts.children_wrong),
            "letters_wrong": len(accounts.letters_wrong),
            "unlike": len(accounts.unlike),
            "unexpected": accounts.unexpected,
            "runs": accounts.runs,
            "reruns": {**accounts.reruns, "total": sum(accounts.reruns.values())},
            "faults": {**Counter(fault.kind for fault in self.faults), "total": len(self.faults)},
            "longest_stall_s": accounts.longest_stall_s,
            "stalled_by": accounts.stalled_by,
            "latency_s": accounts.latency_s,
            "drained_s": self.drained_s,
            "failures": self.failures,
        }

    def markdown(self) -> str:
        """The same for people."""
        accounts, found = self.accounts, self.json()
        drained = "NOT IN TIME" if self.drained_s is None else f"{self.drained_s:.1f} s"
        rows = [
            ("acknowledged to producers", f"{accounts.acknowledged:,}"),
            ("stored, with those that handlers sent", f"{accounts.stored:,}"),
            ("outcomes", _listed(accounts.outcomes)),
            ("unfinished, since it did not drain", str(accounts.unfinished)),
            ("**lost**", str(found["lost"])),
            ("**outcome duplicates**", str(found["outcome_duplicates"])),
            ("children of completed parents, missing or too many", str(found["children_wrong"])),
            ("dead letters, missing or too many", str(found["letters_wrong"])),
            ("acknowledged where another record is", str(found["unlike"])),
            ("runs of handlers", f"{accounts.runs:,}"),
            ("of these again, by cause", f"{found['reruns']['total']} ({_listed(accounts.reruns)})"),
            ("other outcomes than without faults", _listed(accounts.unexpected)),
            ("longest stall", f"{accounts.longest_stall_s} s ({', '.join(accounts.stalled_by) or 'no fault then'})"),
            ("acknowledged to outcome, quick tasks", _listed(accounts.latency_s, " s")),
            ("faults", f"{len(self.faults)} ({_listed(Counter(fault.kind for fault in self.faults))})"),
            ("drained, once all was mended, in", drained),
            ("processes that ended by themselves or did not end", str(len(self.failures))),
        ]
        lines = [f"## Chaos: {self.minutes:g} minutes, seed {self.seed}", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in rows]
        for failure in self.failures:
            lines += ["", f"FAILURE: {failure}"]
        if accounts.violations:
            lines += ["", f"VIOLATIONS: {', '.join(accounts.violations[:SHOWN])}"]
        return "\n".join(lines)


def _listed(counts: Any, unit: str = "") -> str:
    return ", ".join(f"{name} {count}{unit}" for name, count in counts.items()) or "none"
