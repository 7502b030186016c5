"""The bench: every figure has its key, its bar and a place in table and JSON. Speed is for `make bench` to tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import figures
import prepare
import pytest
import report
import tally
from sizes import FULL, QUICK, SMOKE, scaled
from stage import Stage
from workloads import WORKLOADS, python_peers

ROOT = Path(__file__).resolve().parent.parent
BARS = {
    "noop_vs_raw": "≥ 0.25",
    "noop_vs_best_python": "≥ 15",
    "noop_vs_parallel_consumer": "≥ 1.5",
    "trace_us_sampled": "≤ 60",
    "enqueue_vs_raw": "≥ 0.7",
    "wait50_vs_ideal": "≤ 1.15",
    "sync_vs_dramatiq": "≥ 10",
    "idle_p50_ms": "≤ 3",
    "idle_p99_ms": "≤ 20",
    "loaded_p99_vs_idle": "≤ 2",
    "share_error_bound": "≤ 2",
    "share_error_full": "≤ 5",
    "delay_p99_ms": "≤ 50",
    "delay_min_ms": "≥ 0",
    "backlog_1m_vs_10k": "≥ 0.9",
    "rss_mib": "≤ 200",
    "rerun_after_restart": "= 0",
    "many_workers": "None",
}
ABOUT = {"command": "make bench", "machine": "2 cores", "versions": "Python 3.13", "repeats": 3}


def test_the_table_has_these_figures_with_these_bars() -> None:
    assert {figure.key: str(figure.bar) for figure in figures.KEYS} == BARS


def test_no_key_is_told_twice_and_each_is_of_a_workload() -> None:
    keys = [figure.key for figure in figures.FIGURES]
    assert len(keys) == len(set(keys))
    assert {figure.workload for figure in figures.FIGURES} == set(WORKLOADS)


@pytest.mark.parametrize(
    ("bar", "met", "short"),
    [(figures.at_least(0.25), 0.25, 0.249), (figures.at_most(20), 20, 20.1), (figures.Bar("=", 0), 0, 1)],
)
def test_a_bar_is_met_where_it_is_reached(bar: figures.Bar, met: float, short: float) -> None:
    assert bar.is_met(met)
    assert not bar.is_met(short)


def test_a_ratio_is_one_of_medians_and_its_spread_that_of_the_repeats() -> None:
    repeats = [{"noop_per_s": ours, "raw_per_s": raw} for ours, raw in ((10.0, 100.0), (30.0, 50.0), (20.0, 200.0))]
    found = {each.figure.key: each for each in figures.find(repeats, ["noop"], {})}
    assert found["noop_vs_raw"].value == 20 / 100
    assert sorted(found["noop_vs_raw"].repeats) == [0.1, 0.1, 0.6]
    assert found["noop_vs_raw"].verdict == "short"


def test_what_was_measured_once_counts_in_a_run_of_several_repeats() -> None:
    found = {each.figure.key: each for each in figures.find([{"rerun_after_restart": 0.0}, {}], ["restart"], {})}
    assert found["rerun_after_restart"].value == 0
    assert found["rerun_after_restart"].verdict == "met"


def test_what_is_missing_is_null_with_its_reason_in_json_and_in_the_table() -> None:
    reasons = {"parallel_consumer_poll_per_s": "no JDK is here"}
    found = figures.find([{"noop_per_s": 20.0, "raw_per_s": 100.0}], ["noop"], reasons)
    told = json.loads(report.as_json(found, ABOUT, {}))
    assert told["figures"]["noop_vs_parallel_consumer"] is None
    assert told["missing"]["noop_vs_parallel_consumer"] == "no JDK is here"
    assert told["figures"]["noop_vs_raw"] == 0.2
    assert "noop_vs_raw" not in told["missing"]
    table = report.as_markdown(found, ABOUT, {})
    assert "| noop_vs_parallel_consumer | no JDK is here |" in table
    assert "| noop_vs_raw | 0.2 |  | ≥ 0.25 | short |" in table


def test_a_short_run_names_what_it_scales_down() -> None:
    assert scaled(FULL) == {}
    assert scaled(QUICK)["backlog"] == {"here": 100_000, "full": 1_000_000}
    assert set(scaled(QUICK)) <= set(scaled(SMOKE))


def test_a_tally_counts_the_runs_of_all_threads_from_the_first_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tally.FOLDER, str(tmp_path))
    counted = tally.Tally()
    assert tally.read(tmp_path).runs == 0

    def run() -> None:
        for _ in range(100):
            counted.mark()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count = tally.wait(tmp_path, 300, timeout_s=1)
    assert count.runs == 300
    assert count.took_s > 0


def test_a_peer_that_is_not_installed_is_missing_with_a_reason_and_the_rest_runs(tmp_path: Path) -> None:
    stage = Stage("nowhere:9092", None, tmp_path)
    assert python_peers.run(stage, SMOKE) == {}
    found = {each.figure.key: each for each in figures.find([{"noop_per_s": 1.0}], ["noop"], stage.missing)}
    assert found["noop_vs_best_python"].missing == "celery is not installed: `make bench` installs it"


def test_the_newest_python_is_one_that_runs_and_that_fairlane_supports(tmp_path: Path) -> None:
    found = prepare.version_of(prepare.newest_python())
    assert found is not None
    assert found >= sys.version_info[:3]
    shim = tmp_path / "python3.14"
    shim.write_text("#!/bin/sh\necho this version is not set >&2\nexit 127\n")
    shim.chmod(0o755)
    assert prepare.version_of(shim) is None


@pytest.mark.kafka
def test_a_run_leaves_its_figures_as_json_and_as_a_table(kafka: str, tmp_path: Path) -> None:
    environment = os.environ | {"KAFKA_BOOTSTRAP_SERVERS": kafka, "PYTHONSAFEPATH": "1"}
    command = [sys.executable, str(ROOT / "bench"), "--size", "smoke", "--only", "wait50", "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "bench.json").read_text())
    assert set(told["figures"]) == {figure.key for figure in figures.FIGURES if figure.workload == "wait50"}
    assert told["figures"]["wait50_vs_ideal"] >= 1
    assert told["scaled"]["waits"] == {"here": SMOKE.waits, "full": FULL.waits}
    assert "| wait50_vs_ideal |" in (tmp_path / "bench.md").read_text()
