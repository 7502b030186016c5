"""A metric: its name, type, unit and labels, declared once; and a reading of it, whoever it is told to.

Invariant: no I/O and no clock. A name is Prometheus' own, with its suffixes; the names of the other two ways follow
from it, except where OpenTelemetry's semantic conventions have one.

Source: Prometheus' naming practices; UCUM for units; OpenTelemetry's semantic conventions for messaging 1.44.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram", "info"]

PREFIX: Final = "fairlane_"
_SUFFIXES: Final = ("_total", "_seconds", "_ratio")

ATTRIBUTES: Final = {
    "lane": "messaging.destination.name",
    "topic": "messaging.destination.name",
    "partition": "messaging.destination.partition.id",
    "worker": "messaging.client.id",
    "exception": "error.type",
    "task": "fairlane.task.type",
}
"""Labels that have another name in OpenTelemetry; any other is `fairlane.` and its name."""


class Example(NamedTuple):
    """One value of a bucket that has a trace."""

    trace_id: str
    span_id: str
    value: float
    at_s: float


class Spread(NamedTuple):
    """How values are spread: how many are in each bucket (the last one has no bound), their sum, and examples."""

    counts: Sequence[int]
    sum: float
    examples: Mapping[int, Example] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Measure:
    """What is measured.

    Attributes:
        name: as Prometheus has it.
        kind: its type; an info is 1, and its labels are what it says.
        unit: in UCUM, such as `s`, `By`, `1` or `{task}`.
        labels: names of its labels, each of which has few values.
        says: what it is, in one sentence.
        bounds: upper bounds of the buckets of a histogram.
        convention: its name by OpenTelemetry's semantic conventions, where they have one.
        attributes: what these say of it besides.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    says: str
    bounds: tuple[float, ...] = ()
    convention: str = ""
    attributes: tuple[tuple[str, str], ...] = ()

    @property
    def short(self) -> str:
        """The name without what its type and its unit say: `tasks_received`."""
        name = self.name.removeprefix(PREFIX)
        for suffix in _SUFFIXES:
            name = name.removesuffix(suffix)
        return name

    @property
    def otel(self) -> str:
        """Its name in OpenTelemetry: that of the conventions, or `fairlane.` with the short one."""
        return self.convention or f"fairlane.{self.short}"

    def attributes_of(self, key: Sequence[str]) -> dict[str, str]:
        """The attributes in OpenTelemetry of the values of its labels; one without a value is left out."""
        named = zip(self.labels, key, strict=True)
        return dict(self.attributes) | {
            ATTRIBUTES.get(name, f"fairlane.{name}"): value for name, value in named if value
        }


@dataclass(frozen=True, slots=True)
class Reading:
    """Values of a measure at one moment, by the values of its labels; of a histogram, `Spread`s."""

    measure: Measure
    values: Mapping[tuple[str, ...], float]
    spreads: Mapping[tuple[str, ...], Spread] = field(default_factory=dict)


Collect = Callable[[], Iterable[Reading]]
"""Reads everything that is measured in a process; from any thread."""


def declared(names: Mapping[str, object]) -> tuple[Measure, ...]:
    """The measures among the names of a module, in their order."""
    return tuple(each for each in names.values() if isinstance(each, Measure))
