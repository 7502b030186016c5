"""`fairlane demo`: see it all once, on a Kafka of its own.

Invariant: Ctrl-C and SIGTERM end it as soon as they can, and end with it whatever it has started.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console

from fairlane.topics.errors import UsageError

_ENDS: Final = (signal.SIGINT, signal.SIGTERM)


class _Asked(KeyboardInterrupt):
    """A signal asks for the end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave Kafka and the queue up, to play with.")] = False,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, metavar="PORT", help="Of Kafka. [default: a free one]")
    ] = None,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Only enqueue tasks without end, in the queue of FAIRLANE_QUEUE_URL."),
    ] = False,
    rate_per_s: Annotated[
        float, typer.Option("--rate", min=0.1, max=1000, metavar="N", help="With --stream: tasks a second.")
    ] = 5.0,
) -> None:
    """See prioritised tasks run, fail, retry, die and succeed on a real Kafka, with two workers; under a minute.

    It needs nothing but this machine, and leaves nothing running. The first time, Kafka's jars are fetched (41 MB).
    """
    if stream and (keep or port):
        raise UsageError("--stream starts no Kafka", "Leave out --keep and --port; FAIRLANE_QUEUE_URL says where it is")

    def interrupt(number: int, _frame: FrameType | None) -> NoReturn:
        # A second one ends this process at once, and the guards of what it has started end that.
        for each in _ENDS:
            signal.signal(each, signal.SIG_DFL)
        raise _Asked(number)

    for number in _ENDS:
        signal.signal(number, interrupt)
    try:
        if stream:
            from fairlane.demo.stream import run as run_stream

            run_stream(rate_per_s, typer.echo)
            return
        from fairlane.demo.run import run

        run(Console(highlight=False), keep=keep, port=port)
    except _Asked as asked:
        typer.echo("\nStopped." if stream else "\nStopped. Nothing is left running.")
        raise typer.Exit(128 + asked.number) from None
