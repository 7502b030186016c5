"""What became of the wish to cancel a task, in words, for every view that says it.

Invariant: no I/O and no clock; an id is not in it.
"""

from __future__ import annotations

from fairlane.monitor.control import CancelAnswer


def cancel_words(answer: CancelAnswer) -> str:
    """What became of it: `cancelled: it was pending, and does not run`."""
    match answer.found:
        case "ended":
            return f"{answer.state} already: nothing to cancel"
        case "unknown":
            return "nothing speaks of it; if it comes from before now, it will not run (kept for 30 days)"
        case "running":
            return "cancelled: it runs, and is cut off"
        case "not looked up":
            return "cancelled, unless it has ended"
        case _:
            return f"cancelled: it was {answer.found}, and does not run"
