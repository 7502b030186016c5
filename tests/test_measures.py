"""What is declared to be measured: names that Prometheus' habits ask for, told in the docs, with readings that fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from fairlane.consumer import measures as of_workers
from fairlane.monitor import measures as of_monitors
from fairlane.topics.metrics.measure import Example, Measure, Reading, Spread
from fairlane.topics.metrics.page import page
from fairlane.topics.metrics.since import Since

ROOT = Path(__file__).resolve().parent.parent
ALL = (*of_workers.ALL, *of_monitors.ALL)
SUFFIXES = {"s": "_seconds", "By": "_bytes"}

COUNT = Measure("fairlane_things_total", "counter", "{thing}", ("lane",), "things")
TIMES = Measure("fairlane_thing_seconds", "histogram", "s", ("lane",), "how long things took", bounds=(0.1, 1.0))


def row(measure: Measure) -> str:
    labels = ", ".join(measure.labels) or "none"
    return f"| `{measure.name}` | {measure.kind} | `{measure.unit}` | {labels} | {measure.says} |"


def rows() -> list[str]:
    return [line for line in (ROOT / "docs/metrics.md").read_text().splitlines() if line.startswith("| `fairlane_")]


def test_every_metric_is_told_in_the_docs_as_it_is_declared() -> None:
    assert [line for line in rows() if "messaging." not in line] == [row(measure) for measure in ALL]


def test_the_names_of_the_conventions_are_told_in_the_docs() -> None:
    told = dict(re.findall(r"`(\w+)` \| `(messaging\.[\w.]+)`", "\n".join(rows())))
    assert told == {measure.name: measure.convention for measure in ALL if measure.convention}


def test_a_name_is_declared_once() -> None:
    assert len({measure.name for measure in ALL}) == len(ALL)
    assert len({measure.otel for measure in ALL}) == len(ALL)


@pytest.mark.parametrize("measure", ALL, ids=lambda measure: measure.name)
def test_a_name_says_its_type_and_its_unit(measure: Measure) -> None:
    assert re.fullmatch(r"fairlane_[a-z]+(_[a-z]+)*", measure.name)
    assert measure.name.endswith("_total") == (measure.kind == "counter")
    assert measure.name.endswith("_info") == (measure.kind == "info")
    assert measure.name.removesuffix("_total").endswith(SUFFIXES.get(measure.unit, ""))
    assert bool(measure.bounds) == (measure.kind == "histogram")
    assert "id" not in measure.labels


def test_a_page_has_the_readings_and_the_exemplars_of_who_asks_for_them() -> None:
    example = Example("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 0.5, 1_700_000_000.25)
    readings = [
        Reading(COUNT, {("shop.p3",): 7}),
        Reading(TIMES, {}, {("shop.p3",): Spread([4, 2, 1], 12.5, {1: example})}),
    ]
    media_type, body = page(lambda: readings, "application/openmetrics-text;version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    found = {family.name: family for family in text_string_to_metric_families(body.decode())}  # type: ignore[no-untyped-call]
    assert [sample.value for sample in found["fairlane_things"].samples] == [7]
    buckets = {sample.labels.get("le"): sample for sample in found["fairlane_thing_seconds"].samples}
    assert [buckets[bound].value for bound in ("0.1", "1.0", "+Inf")] == [4, 6, 7]
    exemplar = buckets["1.0"].exemplar
    assert exemplar is not None
    assert (exemplar.labels["trace_id"], exemplar.value) == (example.trace_id, 0.5)
    assert b"0af7651916cd43dd8448eb211c80319c" not in page(lambda: readings, "text/plain")[1]


def test_what_was_gained_is_told_once_and_a_count_that_began_anew_from_its_beginning() -> None:
    since = Since()
    told = [since.gained(Reading(COUNT, {("a",): value})).values["a",] for value in (5, 5, 8, 2)]
    assert told == [5, 0, 3, 2]
    spreads = [Spread([1, 0, 0], 0.05), Spread([3, 1, 0], 0.65), Spread([0, 1, 0], 0.5)]
    gained = [since.gained(Reading(TIMES, {}, {("a",): spread})).spreads["a",] for spread in spreads]
    assert [each.counts for each in gained] == [(1, 0, 0), (2, 1, 0), (0, 1, 0)]
    assert [each.sum for each in gained] == pytest.approx([0.05, 0.6, 0.5])
