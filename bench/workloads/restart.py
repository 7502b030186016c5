"""A worker with full offset maps is killed with SIGKILL and another takes over: what ran again although it was settled.

Method: one task of so many never ends, until each partition's map is full and stalls. What is settled then is read
from the status topic; after the kill a second worker runs what is left, and says what it ran.
"""

from __future__ import annotations

import json
import signal
import tempfile
from pathlib import Path

import load
from settled import committed_records, expect_outcomes
from sizes import Sizes
from stage import SMALL, Measured, Stage

from fairlane.topics.events import decode_status
from fairlane.topics.names import DEFAULT_LEVEL, QueueNames


def run(stage: Stage, sizes: Sizes) -> Measured:
    with stage.queue(partitions=sizes.restart_partitions, small=True) as names, tempfile.TemporaryDirectory() as folder:
        load.fill(stage.connection, names, sizes.restart, levels=(DEFAULT_LEVEL,))
        with stage.start("held", names.queue, "hold", sizes.held_every, more=SMALL) as held:
            if held.wait(240) != -signal.SIGKILL:
                raise SystemExit("the worker that was to be killed ended by itself")
        completed = results(stage, names)
        if not completed:
            raise SystemExit("the worker was killed before anything was settled, so nothing could run again")
        ran_path = Path(folder) / "ran.json"
        stage.subject("held", names.queue, "finish", ran_path, more=SMALL)
        ran = json.loads(ran_path.read_text())
        expect_outcomes(stage.connection, names, sizes.restart)
    again = len(completed.intersection(ran))
    return {"rerun_after_restart": again, "completed_before_restart": len(completed), "run_after_restart": len(ran)}


def results(stage: Stage, names: QueueNames) -> set[int]:
    """The numbers of the tasks that are settled as completed."""
    events = (decode_status(record.value() or b"") for record in committed_records(stage.connection, names.status))
    return {int(bytes(event.result)) for event in events if event is not None and event.state == "completed"}
