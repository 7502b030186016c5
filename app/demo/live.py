"""The demo while it runs: a bar for every lane in a terminal, a line a second elsewhere.

Invariant: it only shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fairlane.demo.journal import LaneCount

_LINE_EVERY_S: Final = 1.0
_BAR_LEAST: Final = 10
_BAR_MOST: Final = 36
_BESIDE_THE_BAR: Final = 64

Show = Callable[[Sequence[LaneCount], float], None]
"""Shows how far the lanes are after so many seconds."""


@contextmanager
def live_view(console: Console) -> Iterator[Show]:
    """What shows it, as long as the block lasts."""
    if not console.is_terminal:
        yield _Lines(console).show
        return
    with Live(console=console, auto_refresh=False, transient=False) as live:
        yield lambda lanes, elapsed_s: live.update(picture(lanes, elapsed_s, console.width), refresh=True)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_s = 0.0
        self._said = ""

    def show(self, lanes: Sequence[LaneCount], elapsed_s: float) -> None:
        """A line, if a second has passed since the last one, or all is done."""
        if elapsed_s < self._next_s and any(lane.ended < lane.total for lane in lanes):
            return
        line = " ".join(f"p{lane.level} {lane.ended}/{lane.total}" for lane in lanes) + f"  {_rest(lanes)}"
        if line != self._said:
            self._console.print(f"  {elapsed_s:4.1f} s  {line.rstrip()}", markup=False, soft_wrap=True)
            self._said = line
        self._next_s = elapsed_s + _LINE_EVERY_S


def _rest(lanes: Sequence[LaneCount]) -> str:
    retrying, dead = sum(lane.retrying for lane in lanes), sum(lane.dead for lane in lanes)
    return ", ".join([f"{retrying} to retry"] * bool(retrying) + [f"{dead} dead"] * bool(dead))


def picture(lanes: Sequence[LaneCount], elapsed_s: float, width: int) -> RenderableType:
    """Bars, the most urgent lane first, in so many characters."""
    bar = max(_BAR_LEAST, min(_BAR_MOST, width - _BESIDE_THE_BAR))
    table = Table.grid(padding=(0, 2, 0, 0))
    for justify in ("left", "left", "left", "right", "left"):
        table.add_column(justify=justify, no_wrap=True)
    for lane in lanes:
        table.add_row(
            Text(f"  p{lane.level}", style="bold"),
            Text(", ".join(lane.types)),
            ProgressBar(total=lane.total, completed=lane.ended, width=bar),
            Text(f"{lane.ended}/{lane.total}"),
            Text(_rest([lane]), style="yellow"),
        )
    return Group(table, Text(f"  {elapsed_s:.1f} s", style="dim"))
