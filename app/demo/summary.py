"""What the demo has shown, for somebody who sees it for the first time.

Invariant: no I/O, and every figure is one that was measured in this run: from the settled status events, the dead
letters in Kafka and the exported spans.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean
from typing import Final

from fairlane.demo.journal import Enqueued, Journal, Start
from fairlane.demo.spans import Span
from fairlane.demo.tree import lines, trace_of
from fairlane.monitor.letter import Letter
from fairlane.monitor.show import visible
from fairlane.topics.names import DEFAULT_WEIGHTS

_STRIP: Final = 32
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Found:
    """What there is to tell of.

    Attributes:
        journal: what became of the tasks.
        letters: the dead letters of these tasks.
        spans: all that were exported.
        lag: records before the ends of lanes and tiers that are not committed, in Kafka's own eyes.
        exit_codes: of the workers, by name.
    """

    journal: Journal
    letters: Sequence[Letter]
    spans: Sequence[Span]
    lag: int
    exit_codes: dict[str, int | None]


def problems(found: Found) -> list[str]:
    """What does not add up."""
    journal = found.journal
    wrong = journal.problems()
    dead, letters = {task.origin for task in journal.ended("failed")}, {letter.origin for letter in found.letters}
    if dead != letters:
        wrong.append(f"{len(dead)} tasks are dead and {len(letters)} of them are in the dead letter queue")
    wrong += [f"{name} ended with exit code {code}" for name, code in found.exit_codes.items() if code != 0]
    return wrong


def text(found: Found) -> Iterator[str]:
    """The summary, line by line; a line that begins with a digit is a heading."""
    journal = found.journal
    for number, (heading, body) in enumerate(
        (
            ("The urgent went first.", _order(journal.starts())),
            ("What failed was tried again, and not before its time.", _retries(journal)),
            ("What cannot succeed is a dead letter, with its reason.", _dead(found.letters)),
            ("A task may be for later, and may come from any Kafka client.", _others(journal)),
            ("One task's life is one trace, through all processes and attempts.", _trace(found)),
            ("Nothing was lost, and nothing ended twice.", _counts(found)),
        ),
        1,
    ):
        yield f"{number}. {heading}"
        yield from (f"   {line}".rstrip() for line in body)
        yield ""


def _order(starts: Sequence[Start]) -> Iterator[str]:
    total = sum(len(start.started_at) for start in starts)
    yield f"All {total} were there before the first worker was, the least urgent enqueued first."
    yield "Their mean places in the order of the enqueues, and in the order of the starts:"
    yield f"lane  weight  tasks  enqueued  started  {'its share of the starts, in time':^{_STRIP + 2}}"
    for start in starts:
        strip = _strip(start.started_at, total)
        yield (
            f"p{start.level:<4} {DEFAULT_WEIGHTS[start.level]:>6}  {len(start.started_at):>5}  "
            f"{fmean(start.enqueued_at):>8.0f}  {fmean(start.started_at):>7.0f}  |{strip}|"
        )
    yield "While all lanes have work, each gets a share of the starts by its weight: p5 first, and p1 never starves."


def _strip(places: Sequence[int], total: int) -> str:
    """How the starts are spread over the run, as a row of blocks; a full one is a time when only this lane started."""
    counts = [0] * _STRIP
    for place in places:
        counts[(place - 1) * _STRIP // total] += 1
    full = total / _STRIP
    most = len(_BLOCKS) - 1
    return "".join(_BLOCKS[min(most, ceil(count * most / full))] for count in counts)


def _retries(journal: Journal) -> Iterator[str]:
    by_kind: defaultdict[tuple[str, int, str], list[tuple[float, float]]] = defaultdict(list)
    for retry in journal.retries():
        error = retry.failed.error.type if retry.failed.error else "?"
        by_kind[retry.task.type, retry.failed.attempt, error].append((retry.asked_ms / 1000, retry.waited_ms / 1000))
    yield f"{'task':<14} {'failed':<10} {'with':<16} {'tasks':>5}  {'asked to wait':<15}  waited"
    for (kind, attempt, error), waits in by_kind.items():
        asked, waited = [wait[0] for wait in waits], [wait[1] for wait in waits]
        yield (
            f"{visible(kind):<14} {f'attempt {attempt}':<10} {visible(error):<16} {len(waits):>5}  "
            f"{_range(asked):<15}  {_range(waited)}"
        )
    recovered = [
        task for task in journal.ended("completed") if len(journal.events(task)) > 1 and task.kind == "backlog"
    ]
    yield "When its time has come, a task lines up in its lane again: behind a backlog that takes a little longer."
    yield f"{len(recovered)} of these tasks have recovered."


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return f"{low} s" if low == high else f"{low}–{high} s"


def _dead(letters: Sequence[Letter]) -> Iterator[str]:
    for letter in letters:
        tried = f"{letter.attempt} attempt{'s' if letter.attempt != 1 else ''}"
        yield (
            f"{visible(letter.type)}  {visible(letter.reason)} after {tried}  "
            f"{visible(letter.error_type)}: {visible(letter.error_message)}"
        )
    yield "`fairlane dlq list` shows them, `fairlane dlq replay` puts them back when their cause is mended."


def _others(journal: Journal) -> Iterator[str]:
    for task in journal.tasks.values():
        last = journal.last(task)
        if last is None or task.kind == "backlog":
            continue
        result = bytes(last.result).decode() if last.state == "completed" else last.state
        if task.kind == "foreign":
            yield f"A plain producer wrote bare JSON to {task.origin.partition('/')[0]}, no headers: {visible(result)}"
        else:
            after_s = (last.started_ms - last.enqueued_ms) / 1000
            yield f"{task.type}, enqueued for {task.delay_s:g} s later, began {after_s:.2f} s later: {visible(result)}"


def _trace(found: Found) -> Iterator[str]:
    task = traced(found.journal)
    trace = trace_of(task.id, found.spans) if task else None
    if task is None or trace is None:
        yield "No trace of a task that was retried has come."
        return
    yield f"{task.type} {task.id}, of {len(found.spans):,} spans that were exported by OpenTelemetry:"
    yield from lines(trace)


def traced(journal: Journal) -> Enqueued | None:
    """A task that failed and recovered."""
    return next((task for task in journal.ended("completed") if len(journal.events(task)) > 1), None)


def _counts(found: Found) -> Iterator[str]:
    journal = found.journal
    completed, dead = journal.ended("completed"), journal.ended("failed")
    yield f"{len(journal.tasks)} enqueued = {len(completed)} completed + {len(dead)} dead, counted by origin."
    yield f"Lag of the consumer group in Kafka's own eyes: {found.lag}."
    codes = ", ".join(f"{name} exit code {code}" for name, code in found.exit_codes.items())
    yield f"The workers were asked to end and drained: {codes}."
