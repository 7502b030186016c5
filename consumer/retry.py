"""Whether a failed attempt is tried again, and when.

Invariant: a policy is checked when it is made, and answers the same to the same question: the random part of a delay
is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fairlane.topics.errors import UsageError


@dataclass(frozen=True)
class RetryPolicy:
    """How a task type is retried: exponential backoff with jitter, up to a number of attempts.

    Attributes:
        max_attempts: attempts in all, the first one included; 1 never retries.
        base_s: delay after the first attempt, seconds.
        factor: each further delay is so many times the one before.
        max_s: the longest delay, seconds; jitter spreads around it too.
        jitter: how far a delay is spread to either side, as a part of it: 0.1 is ±10 %, 0 is none, 1 the most.
        retry_on: exceptions that are worth another attempt.
        fatal: exceptions that are not, even if they are in `retry_on`.

    Raises:
        UsageError: a value is out of its range.
    """

    max_attempts: int = 5
    base_s: float = 5.0
    factor: float = 2.0
    max_s: float = 3600.0
    jitter: float = 0.1
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    fatal: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise UsageError(f"max_attempts is {self.max_attempts}", "1 runs a task once, without a retry")
        for name, least, most in (
            ("base_s", 0.0, math.inf),
            ("factor", 1.0, math.inf),
            ("max_s", self.base_s, math.inf),
            ("jitter", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if not (least <= value <= most and math.isfinite(value)):
                upper = f"to {most:g}" if math.isfinite(most) else "on"
                raise UsageError(f"{name} is {value}", f"It is a number from {least:g} {upper}")
        for name in ("retry_on", "fatal"):
            kinds = getattr(self, name)
            if not isinstance(kinds, tuple) or not all(
                isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
            ):
                raise UsageError(f"{name} is {kinds!r}", "It is a tuple of exception classes: (OSError, TimeoutError)")

    def should_retry(self, attempt: int, error: BaseException, *, max_attempts: int = 0) -> bool:
        """Whether there is to be an attempt after this one.

        Args:
            attempt: number of the attempt that failed; the first is 1.
            error: what it raised.
            max_attempts: the task's own limit; 0 leaves it to the policy.
        """
        if attempt >= (max_attempts or self.max_attempts):
            return False
        return isinstance(error, self.retry_on) and not isinstance(error, self.fatal)

    def next_delay(self, attempt: int, unit: float = 0.5) -> float:
        """Seconds between a failed attempt and the next one.

        Args:
            attempt: number of the attempt that failed; the first is 1.
            unit: a random number in [0, 1) that spreads the delay evenly over ±jitter; the default is the middle, the
                exponential value itself.
        """
        try:
            delay_s = min(self.max_s, self.base_s * self.factor ** (attempt - 1))
        except OverflowError:
            delay_s = self.max_s
        return delay_s * (1.0 + self.jitter * (2.0 * unit - 1.0))


class AttemptsMax(dict[str, int]):
    """After how many attempts a task of each type is dead, where the task itself does not say it.

    Args:
        known: by type.
        otherwise: for all other types; 0 is not known.
    """

    def __init__(self, known: Mapping[str, int] = MappingProxyType({}), otherwise: int = 0) -> None:
        super().__init__(known)
        self._otherwise = otherwise

    def __missing__(self, _: str) -> int:
        return self._otherwise
