"""The demo from its first line to its last.

Invariant: every step says what it did when it is done; what was started last ends first.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from fairlane.demo import crew, stage, summary
from fairlane.demo.errors import DemoWrong
from fairlane.demo.journal import Journal
from fairlane.demo.live import live_view
from fairlane.demo.spans import SpanStore, receive_spans
from fairlane.topics import tracing_setup

if TYPE_CHECKING:
    from fairlane.demo.crew import Crew
    from fairlane.demo.follow import Follower

WORKERS: Final = 2
QUEUE: Final = "shop"
PATIENCE_S: Final = 60.0
DRAIN_S: Final = 20.0
LAG_S: Final = 5.0
_TICK_S: Final = 0.1


def run(console: Console, *, keep: bool = False, port: int | None = None) -> None:
    """Play it, and say what it has shown.

    Args:
        console: where it is shown.
        keep: whether Kafka stays, to play with.
        port: of Kafka; a free one by default.

    Raises:
        DemoWrong: the tasks do not add up.
        FairlaneError: it could not be played.
    """
    say = _Said(console)
    with ExitStack() as ends:
        scratch = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="fairlane-demo-")))
        ends.enter_context(stage.own_environment(scratch))
        kafka = ends.enter_context(stage.own_kafka(keep=keep, port=port, say=say.wait))
        say.done(f"Kafka {kafka.version} runs at {kafka.bootstrap}" + ("" if kafka.started else ", as it did before"))
        endpoint, store = ends.enter_context(receive_spans())
        # While there is somebody to take what is left to export.
        ends.callback(tracing_setup.shutdown)
        environ = stage.point_at(kafka.bootstrap, QUEUE, endpoint)
        found = _play(say, scratch, store, environ)
    console.print()
    for line in summary.text(found):
        console.print(line, style="bold" if line[:1].isdigit() else None, markup=False, soft_wrap=True)
    wrong = summary.problems(found)
    if wrong:
        raise DemoWrong(tuple(wrong))
    if keep:
        _tell_what_to_play_with(console, kafka.bootstrap)
    console.print("Nothing else is left running." if keep else "Nothing is left running.")


class _Said:
    """Steps, each with how long it took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._began = time.monotonic()

    def wait(self, sentence: str) -> None:
        """Say what is going to take long."""
        self.console.print(f"  … {sentence}", markup=False, soft_wrap=True)

    def done(self, sentence: str) -> None:
        """Say what was done since the step before."""
        now = time.monotonic()
        self.console.print(f"  ✓ {sentence} ({now - self._began:.1f} s)", markup=False, soft_wrap=True)
        self._began = now


def _play(say: _Said, scratch: Path, store: SpanStore, environ: dict[str, str]) -> summary.Found:
    # Imported when the environment says where Kafka is: the app reads it, as any app does.
    from fairlane.demo import load
    from fairlane.demo.follow import Follower, lag_of, letters_of
    from fairlane.demo.tasks import app
    from fairlane.topics.admin import TopicAdmin
    from fairlane.topics.topology import Topology

    tracing_setup.configure()
    creation = TopicAdmin(app.connection, timeout_s=PATIENCE_S).create(Topology.of(app.names))
    made = len(creation.made)
    say.done(f"queue {QUEUE}: {made} topics made" if made else f"queue {QUEUE} is there already")
    bootstrap = app.connection.bootstrap
    with Follower(app.connection, app.names) as follower:
        follower.skip()
        journal = Journal(load.enqueue_all(bootstrap))
        app.close()
        say.done(f"{len(journal.tasks)} tasks enqueued while nobody works, the least urgent first")
        with crew.workers(WORKERS, scratch, environ) as hands:
            say.done(f"{WORKERS} processes started: fairlane {' '.join(crew.COMMAND)}")
            _watch(say.console, journal, follower, hands)
            say.done(f"{sum(lane.ended for lane in journal.lanes())} tasks ended")
            lag = lag_of(app.connection, app.names, LAG_S)
            letters = letters_of(app.connection, app.names, {task.origin for task in journal.ended("failed")})
            codes = hands.stop(DRAIN_S)
    tracing_setup.shutdown()
    say.done("workers drained")
    return summary.Found(journal, letters, store.spans, lag, codes)


def _watch(console: Console, journal: Journal, follower: Follower, hands: Crew) -> None:
    """Follow the tasks until all have ended, or patience has."""
    began = time.monotonic()
    with live_view(console) as show:
        while True:
            for origin, event in follower.news():
                journal.take(origin, event)
            elapsed_s = time.monotonic() - began
            show(journal.lanes(), elapsed_s)
            if journal.all_ended or elapsed_s > PATIENCE_S:
                return
            hands.check()
            time.sleep(_TICK_S)


def _tell_what_to_play_with(console: Console, bootstrap: str) -> None:
    for line in (
        "Kafka stays, with the queue and its history. To play with it:",
        f"  export FAIRLANE_QUEUE_URL=kafka://{bootstrap}/{QUEUE}",
        "  fairlane worker fairlane.demo.tasks:app         # in a terminal of its own; Ctrl-C ends it",
        '  fairlane enqueue --type send_receipt --payload \'{"order": 7, "to": "you@example.com"}\'',
        "  fairlane monitor",
        "  fairlane dlq list",
        f"  fairlane kafka stop --name {stage.KEPT_NAME}",
    ):
        console.print(line, markup=False, soft_wrap=True)
