"""What is shipped for watching asks for what there is: panels and alerts name metrics and labels of the code, links
lead to headings, and the commands of the runbook are commands.

PromQL is read by a parser of its own; where promtool is on the PATH it checks the rules, and plays them.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import promql_parser
import pytest
import typer.main
import yaml
from prometheus_client import REGISTRY

from fairlane.cli.main import app as command_line
from fairlane.consumer import measures as of_workers
from fairlane.monitor import measures as of_monitors
from fairlane.monitor.api.links import Links
from fairlane.monitor.dashboard import letter_pages, queue_pages, task_pages
from fairlane.monitor.dashboard.pages import PATH
from fairlane.topics.names import QueueNames

ROOT = Path(__file__).resolve().parent.parent
PROMETHEUS = ROOT / "deploy/prometheus"
BOARD = json.loads((ROOT / "deploy/grafana/fairlane.json").read_text())
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
RUNBOOK = (ROOT / "docs/runbook.md").read_text()

OF_TARGETS = {"job", "instance"}
"""Labels that Prometheus gives to whatever it scrapes."""


def series() -> dict[str, set[str]]:
    """The labels of every series that a worker, a monitor, or their scrape has."""
    found: dict[str, set[str]] = {"up": set()}
    for measure in (*of_workers.ALL, *of_monitors.ALL):
        if measure.kind == "histogram":
            found[f"{measure.name}_bucket"] = {*measure.labels, "le"}
            found[f"{measure.name}_sum"] = found[f"{measure.name}_count"] = set(measure.labels)
        else:
            found[measure.name] = set(measure.labels)
    for family in REGISTRY.collect():
        for sample in family.samples:
            if family.name.startswith("process_"):
                found[sample.name] = set(sample.labels)
    return found


SERIES = series()


def nodes(expression: Any) -> Iterator[Any]:
    """The parts of a query, itself first."""
    yield expression
    for name in ("expr", "lhs", "rhs", "param", "vector_selector", "args"):
        inner = getattr(expression, name, None)
        for each in inner if isinstance(inner, list) else [inner]:
            if each is not None:
                yield from nodes(each)


def plain(query: str) -> str:
    """A query of a panel as Prometheus gets it."""
    return (
        query.replace("$__rate_interval", "5m").replace("$queue", "shop").replace("$lane", ".*").replace("$task", ".*")
    )


def panel_queries() -> list[str]:
    return [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())]


def variable_queries() -> list[str]:
    queries = [each["definition"] for each in BOARD["templating"]["list"] if each["type"] == "query"]
    return [re.fullmatch(r"label_values\((.+), (\w+)\)", query).group(1) for query in queries]  # type: ignore[union-attr]


def linked_queries() -> list[str]:
    """Those that the monitor's own dashboard asks Prometheus to draw."""
    address = Links(prometheus="http://prometheus").of_queue(QueueNames("shop"))["Prometheus"]
    return [value for name, value in parse_qsl(urlsplit(address).query) if name.endswith(".expr")]


@pytest.mark.parametrize(
    "query", [*panel_queries(), *variable_queries(), *linked_queries(), *(rule["expr"] for rule in RULES)]
)
def test_a_query_names_metrics_and_labels_that_there_are(query: str) -> None:
    parsed = list(nodes(promql_parser.parse(plain(query))))
    selectors = [each for each in parsed if isinstance(each, promql_parser.VectorSelector)]
    assert selectors
    labels = set(OF_TARGETS)
    for selector in selectors:
        assert selector.name in SERIES, selector.name
        known = SERIES[selector.name] | OF_TARGETS
        assert {matcher.name for matcher in selector.matchers.matchers} <= known, selector.name
        labels |= known
    for each in parsed:
        modifier = getattr(each, "modifier", None)
        named = getattr(modifier, "labels", None) or getattr(getattr(modifier, "matching", None), "labels", None) or []
        assert set(named) <= labels, query


def test_the_labels_that_panels_and_alerts_show_are_those_of_their_metrics() -> None:
    shown = [
        (target["expr"], target["legendFormat"]) for panel in BOARD["panels"] for target in panel.get("targets", ())
    ]
    told = [
        (rule["expr"], said.replace("$labels.", ""))
        for rule in RULES
        for name, said in rule["annotations"].items()
        if name != "runbook_url"
    ]
    for query, text in (*shown, *told):
        parsed = nodes(promql_parser.parse(plain(query)))
        names = [each.name for each in parsed if isinstance(each, promql_parser.VectorSelector)]
        known = set().union(*(SERIES[name or ""] for name in names), OF_TARGETS)
        assert set(re.findall(r"\{\{ ?(\w+) ?\}\}", text)) - {"end"} <= known, text


def test_the_dashboard_shows_what_is_asked_of_it() -> None:
    text = json.dumps(BOARD)
    for metric in (
        "fairlane_tasks_succeeded_total", "fairlane_task_duration_seconds_bucket", "fairlane_lane_lag_seconds",
        "fairlane_worker_lane_weight", "fairlane_tasks_retried_total", "fairlane_dlq_letters", "fairlane_queue_workers",
        "fairlane_settlements_total", "fairlane_rebalances_total",
    ):  # fmt: skip
        assert metric in text, metric


def test_panels_lie_beside_each_other_and_have_names() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + right, place["y"] + down) for right in range(place["w"]) for down in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert all(panel["title"] for panel in BOARD["panels"])


def test_the_dashboard_is_bound_to_no_data_source_of_its_own() -> None:
    sources = {json.dumps(target["datasource"]) for panel in BOARD["panels"] for target in panel.get("targets", ())}
    assert sources == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_its_section_of_the_runbook(rule: dict[str, Any]) -> None:
    path, _, anchor = rule["annotations"]["runbook_url"].removeprefix("{{ $externalLabels.runbooks }}").partition("#")
    text = (ROOT / path).read_text()
    headings = {title.lower().replace(" ", "-"): title for title in re.findall(r"^## (.+)$", text, re.MULTILINE)}
    assert anchor in headings
    section = text.partition(f"\n## {headings[anchor]}\n")[2].partition("\n## ")[0]
    assert f"`{rule['alert']}`" in section
    assert "```console" in section, "how to look"
    assert rule["labels"]["severity"] in ("warning", "critical")


def test_a_section_of_the_runbook_is_of_an_alert() -> None:
    told = set(re.findall(r"`(Fairlane\w+)`", RUNBOOK))
    assert told == {rule["alert"] for rule in RULES}


def commands() -> list[str]:
    lines = [
        line for block in re.findall(r"^```console\n(.*?)^```", RUNBOOK, re.M | re.S) for line in block.splitlines()
    ]
    return sorted({line.removeprefix("$ ") for line in lines if line.startswith("$ fairlane ")})


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_runbook_is_one(command: str) -> None:
    _, *words = shlex.split(command)
    found: Any = typer.main.get_command(command_line)
    while hasattr(found, "commands") and words and words[0] in found.commands:
        found = found.commands[words.pop(0)]
    options = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


def test_an_alert_leads_to_a_page_of_the_dashboard() -> None:
    paths = {
        f"{PATH}{getattr(route, 'path', '')}"
        for pages in (queue_pages, task_pages, letter_pages)
        for route in pages.router.routes
    }
    leads = [rule["annotations"]["dashboard_url"] for rule in RULES if "dashboard_url" in rule["annotations"]]
    assert leads
    for lead in leads:
        page = re.fullmatch(r"\{\{ with \$externalLabels.dashboard \}\}\{\{ \. \}\}(/[^?]+)(\?.+)?\{\{ end \}\}", lead)
        assert page is not None, lead
        assert page[1] in paths


def promtool(*arguments: str) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool on the PATH")
    done = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_rules_and_the_configuration() -> None:
    promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "--syntax-only", "prometheus.yml")


def test_the_alerts_are_raised_by_what_they_are_for_and_by_nothing_else() -> None:
    promtool("test", "rules", "alerts_test.yml")
