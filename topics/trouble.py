"""When to speak of what goes wrong again and again: at once, then ever more rarely, and when it is over.

Invariant: whatever lasts is said as soon as it is seen, and never so often that it hides anything else; that it is over
is said exactly where it had been said to last.
"""

from __future__ import annotations

from typing import Final

TELL_FIRST_S: Final = 60.0
TELL_MAX_S: Final = 3_600.0
"""How long nothing is said of the same thing, at first and at most."""


class Trouble:
    """What is wrong with one thing, such as settling; of several causes each is spoken of by itself."""

    def __init__(self) -> None:
        self._causes: dict[str, tuple[float, float]] = {}
        """Of each: when it may be told next, and how long it waits after that."""
        self._since_s: float | None = None

    def tell(self, cause: str, now_s: float) -> bool:
        """Whether to say now that something is wrong.

        Args:
            cause: what it is; the same words for the same thing.
            now_s: not before that of the call before, seconds.
        """
        next_s, wait_s = self._causes.get(cause, (now_s, TELL_FIRST_S))
        if now_s < next_s:
            return False
        if now_s >= next_s + wait_s:
            wait_s = TELL_FIRST_S  # nobody spoke of it for so long that it is another time
        self._causes[cause] = (now_s + wait_s, min(2 * wait_s, TELL_MAX_S))
        if self._since_s is None:
            self._since_s = now_s
        return True

    @property
    def lasts(self) -> bool:
        """Whether something was said to be wrong and not to be over."""
        return self._since_s is not None

    def over(self, now_s: float) -> float | None:
        """All is well: how long it was not since that was first said, seconds; None where nothing is to be taken back.

        What comes and goes is not told each time: a cause that was told waits for its time all the same.
        """
        since_s, self._since_s = self._since_s, None
        if since_s is None:
            return None
        self._causes = {cause: (next_s, TELL_FIRST_S) for cause, (next_s, _) in self._causes.items() if next_s > now_s}
        return now_s - since_s
