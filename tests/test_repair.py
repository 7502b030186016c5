"""Dead letters repaired as at 3 a.m.: found, filtered, edited, tried dry, sent at a rate, all completed, and the audit
says who did it. `make repair` does it with a thousand, at the rate that one would.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result
from waiting import WAIT_S
from worker_processes import worker_processes
from working_queue import WorkingQueue, working_queue

from fairlane.cli.main import app

pytestmark = pytest.mark.kafka

LETTERS = int(os.environ.get("FAIRLANE_REPAIR_LETTERS", "200"))
RATE = float(os.environ.get("FAIRLANE_REPAIR_RATE", "400"))

TASKS = """
from pydantic import BaseModel, Field
from fairlane import Fairlane, Reject

app = Fairlane("{queue}")

class Receipt(BaseModel):
    order: int
    to: str = Field(pattern=".+@.+")

@app.task
async def send_receipt(receipt: Receipt) -> str:
    return f"sent {receipt.order} to {receipt.to}"

@app.task
async def charge_card(order: int) -> None:
    raise Reject(f"order {order} is paid already")
"""


class Operator:
    """Types commands."""

    def __init__(self, queue: WorkingQueue) -> None:
        self._env = {"FAIRLANE_QUEUE_URL": f"kafka://{queue.bootstrap}/{queue.names.queue}"}

    def types(self, *words: str) -> Result:
        result = CliRunner().invoke(app, words, env=self._env)
        assert result.exit_code == 0, f"{words}: {result.output} {result.exception}"
        return result

    def asks(self, *words: str) -> Any:
        return json.loads(self.types(*words, "--json").stdout)


def test_many_dead_letters_are_repaired(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with working_queue(kafka) as queue, worker_processes(queue, TASKS, tmp_path) as workers:
        workers.start("w")
        bad = [queue.task("send_receipt", b'{"order":%d,"to":"nobody"}' % number) for number in range(LETTERS)]
        other = [queue.task("charge_card", b'{"order":%d}' % number) for number in range(20)]
        queue.send(*bad, *other)
        queue.flush()
        queue.wait_ended(len(bad) + len(other), timeout_s=100)
        operator = Operator(queue)

        groups = {group["type"]: group for group in operator.asks("dlq", "groups")}
        assert {name: group["count"] for name, group in groups.items()} == {"send_receipt": LETTERS, "charge_card": 20}
        which = ("--group", groups["send_receipt"]["id"], "--reason", "invalid_payload", "--error-regex", "to")
        wrong = operator.asks(
            "dlq", "replay", *which, "--merge-patch", '{"to":"x"}', "--app", "work_app:app", "--dry-run"
        )
        assert (wrong["count"], wrong["unfit"]) == (0, LETTERS)
        mend = (*which, "--merge-patch", '{"to":"ada@example.org"}', "--app", "work_app:app")
        dry = operator.asks("dlq", "replay", *mend, "--dry-run", "--first", "1")
        assert (dry["count"], dry["unfit"], dry["looping"]) == (LETTERS, 0, 0)
        assert json.loads(dry["first"][0]["after"])["to"] == "ada@example.org"

        began_s = time.monotonic()
        done = operator.asks("dlq", "replay", *mend, "--rate", str(RATE), "--yes")
        took_s = time.monotonic() - began_s
        assert (done["count"], done["ended"]) == (LETTERS, True)
        assert done["elapsed_s"] >= (LETTERS - RATE / 10) / RATE * 0.95

        deadline = time.monotonic() + WAIT_S
        while (after := operator.asks("dlq", "replayed", "--job", done["job"]))["states"] != {"completed": LETTERS}:
            assert time.monotonic() < deadline, after["states"]
        # One terminal event for the death, and one for the replay: none ran twice.
        ended = {events[0].id: [event.state for event in events] for events in queue.terminal().values()}
        assert [ended[task.id] for task in bad] == [["failed", "completed"]] * LETTERS
        assert bytes(queue.events(bad[7].id)[-1].result) == b'"sent 7 to ada@example.org"'
        assert len(operator.asks("dlq", "list", "--limit", "100")["letters"]) == 20

        finished, started = operator.asks("audit", "--action", "replay")
        assert (started["phase"], started["count"], finished["phase"], finished["count"]) == (
            "started", LETTERS, "ended", LETTERS,
        )  # fmt: skip
        assert started["who"] == finished["who"]
        assert json.loads(started["filter"])["group"] == groups["send_receipt"]["id"]
        letters = [one for one in operator.asks("audit", "--job", done["job"], "--limit", "5000") if "letter" in one]
        assert len({one["letter"] for one in letters if one["edited"] and one["who"] == started["who"]}) == LETTERS
    with capsys.disabled():
        sys.stdout.write(
            f"\n{LETTERS} letters in {done['elapsed_s']:.2f} s at most {RATE:g}/s, {took_s:.2f} s in all\n"
        )
