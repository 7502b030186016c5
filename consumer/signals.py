"""What a handler raises to decide its own outcome. Neither is an error of fairlane's, and neither is logged as one."""

from __future__ import annotations


class RetryLater(Exception):
    """Raise it in a handler to be run again later, whatever the retry policy says of the error.

    It costs an attempt: after `max_attempts` the task is dead like any other.

    Args:
        delay_s: how long to wait, seconds; None leaves it to the retry policy.
        reason: shown in the status and the log.
    """

    def __init__(self, delay_s: float | None = None, reason: str = "") -> None:
        super().__init__(reason)
        self.delay_s = delay_s
        self.reason = reason


class Reject(Exception):
    """Raise it in a handler when no further attempt can help: the task is dead with the reason `rejected`.

    Args:
        reason: shown in the status, the log and the dead letter.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
