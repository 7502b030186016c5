"""A table that fits: of its columns the least needed go first, of its rows the last are counted.

Invariant: no row is wider than the terminal, and cells are text, never markup: square brackets stay what they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_GAP: Final = 2


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: its header.
        right: whether it is aligned to the right, as numbers are.
        rank: 0 is always shown; of the others the highest goes first where the width does not do.
        least: how narrow it may be cut, in characters; 0 is not at all. Of these the widest is cut first.
    """

    name: str
    right: bool = True
    rank: int = 0
    least: int = 0


@dataclass(frozen=True)
class Section:
    """A table of one kind of thing; every row has a cell for every column."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    def table(self, width: int, rows: int | None = None) -> Table:
        """The table in at most `width` characters and, under its header, `rows` lines (all by default)."""
        shown_rows, hidden = self.rows, 0
        if rows is not None and len(self.rows) > rows:
            shown_rows = self.rows[: max(0, rows - 1)]
            hidden = len(self.rows) - len(shown_rows)
        widths = self.fit(width)
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
        for number, wide in widths.items():
            column = self.columns[number]
            justify = "right" if column.right else "left"
            table.add_column(Text(column.name), width=wide, no_wrap=True, overflow="ellipsis", justify=justify)  # type: ignore[arg-type]
        for row in shown_rows:
            table.add_row(*(Text(row[number]) for number in widths))
        if hidden and rows:
            table.add_row(Text(f"… {hidden} more"))
        return table

    def fit(self, width: int) -> dict[int, int]:
        """Columns that are shown, by number, and how wide each is."""
        widths = {
            number: max(cell_len(column.name), *(cell_len(row[number]) for row in self.rows), 0)
            for number, column in enumerate(self.columns)
        }
        for number in sorted(widths, key=lambda number: (-self.columns[number].rank, -number)):
            least = {each: min(wide, self.columns[each].least or wide) for each, wide in widths.items()}
            if _total(least) <= width or not self.columns[number].rank:
                break
            del widths[number]
        while _total(widths) > width:
            loose = [each for each, wide in widths.items() if wide > max(1, self.columns[each].least or wide)]
            if not loose:
                break
            widest = max(loose, key=lambda each: widths[each])
            over = _total(widths) - width
            widths[widest] = max(self.columns[widest].least, widths[widest] - over)
        return widths


def line(cells: Sequence[str], columns: Sequence[Column], widths: Mapping[int, int]) -> str:
    """One row by itself, in columns that were fitted before: a cell that is wider is cut with …."""
    parts = []
    for number, wide in widths.items():
        text = Text(cells[number])
        text.truncate(wide, overflow="ellipsis", pad=not columns[number].right)
        parts.append(" " * (wide - text.cell_len) + text.plain)
    return (" " * _GAP).join(parts).rstrip()


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1)
