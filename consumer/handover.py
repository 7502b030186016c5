"""What threads hand to the event loop: many things at once wake it once.

Invariant: whatever was gathered when the loop is told is given to it once, in the order in which it came, in one call
of `take`, unless a thread withdraws it first. A loop that is closed takes nothing: nobody is there who would wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """From threads to a loop.

    Args:
        loop: which is woken.
        take: gets what has gathered, on the loop's thread.
    """

    __slots__ = ("_gathered", "_is_told", "_loop", "_take")

    def __init__(self, loop: asyncio.AbstractEventLoop, take: Callable[[list[T]], None]) -> None:
        self._loop = loop
        self._take = take
        self._gathered: deque[T] = deque()
        self._is_told = False

    def gather(self, item: T) -> None:
        """Hand something over when the loop is told the next time; any thread."""
        self._gathered.append(item)

    def tell(self) -> None:
        """Wake the loop, if there is something for it and nobody has; any thread."""
        if self._gathered and not self._is_told:
            self._is_told = True
            try:
                self._loop.call_soon_threadsafe(self._give)
            except RuntimeError:
                return  # the loop is closed

    def withdraw(self) -> list[T]:
        """Take what has gathered instead of the loop; any thread."""
        gathered = self._gathered
        items: list[T] = []
        with contextlib.suppress(IndexError):
            while gathered:
                items.append(gathered.popleft())
        return items

    def _give(self) -> None:
        # First: what is gathered after this look is told of anew.
        self._is_told = False
        items = self.withdraw()
        if items:
            self._take(items)
