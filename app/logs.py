"""How fairlane's processes log: one line a record, as text for people or as JSON for machines, naming task and trace.

Invariant: whatever is logged while a handler runs, by whomever, names the task and the trace, since both are looked up
where the record is made. A record is one line of JSON whatever it contains, or lines of text that only it can have
begun; none is lost for what it contains.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO, get_args

import msgspec
from opentelemetry import trace

from fairlane.consumer.context import current
from fairlane.monitor.show import visible
from fairlane.topics import exception_text
from fairlane.topics.errors import UsageError
from fairlane.topics.secrets import redacted
from fairlane.topics.tracing import trace_id

LogFormat = Literal["text", "json"]
LEVELS: Final = ("debug", "info", "warning", "error", "critical")

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NAMED: Final = ("task_id", "task_type", "attempt", "trace_id", "span_id")
_COLOURS: Final = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


def configure(format: LogFormat = "text", level: str = "info", stream: TextIO | None = None) -> None:  # noqa: A002
    """Log to a stream, in place of what an earlier call set up; handlers of the user's own stay.

    Args:
        format: `text` or `json`.
        level: the least that is logged: debug, info, warning, error or critical, in any case.
        stream: stderr by default; text is coloured where it is a terminal, unless NO_COLOR is set.

    Raises:
        UsageError: format or level is another.
    """
    if format not in get_args(LogFormat):
        raise UsageError(f"{format!r} is no log format", f"Use one of {', '.join(get_args(LogFormat))}")
    if level.lower() not in LEVELS:
        raise UsageError(f"{level!r} is no log level", f"Use one of {', '.join(LEVELS)}")
    handler = _Handler(stream or sys.stderr)
    is_terminal = handler.stream.isatty() and not os.environ.get("NO_COLOR")
    handler.setFormatter(JsonLines() if format == "json" else TextLines(coloured=is_terminal))
    handler.addFilter(_add_task_and_trace)
    root = logging.getLogger()
    for old in [found for found in root.handlers if isinstance(found, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)


class _Handler(logging.StreamHandler[TextIO]):
    """Ours among the handlers of the root logger; what it writes has no secret of Kafka's in it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text, whoever logged it."""
        return redacted(super().format(record))


def _add_task_and_trace(record: logging.LogRecord) -> bool:
    """Give a record what runs where it was made, unless whoever logged it said it himself."""
    fields = record.__dict__
    context = current.get(None)
    if context is not None and "task_id" not in fields and "batch_size" not in fields:
        fields |= context.about
    if "trace_id" not in fields:
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            fields |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
        elif context is not None and len(context.each) == 1 and (traceparent := context.each[0].task.traceparent):
            fields["trace_id"] = trace_id(traceparent)
    return True


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller gave as `extra`, besides what has a place of its own."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in _NAMED}


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - arguments that do not fit the message must not lose it
        return f"{record.msg} {record.args!r} ({type(error).__name__}: {error})"


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The traceback; of a record that was made in a child process only the text is here.

    Where exceptions are to say nothing it is where they were raised, of a child's nothing.
    """
    if not exception_text.is_shown():
        error = record.exc_info[1] if record.exc_info else None
        return exception_text.places_of(error) if error is not None else ""
    return formatter.formatException(record.exc_info) if record.exc_info else record.exc_text or ""


class JsonLines(logging.Formatter):
    """`{"time", "level", "logger", "message", "task_id", "task_type", "attempt", "trace_id", "span_id", …}`."""

    _encoder = msgspec.json.Encoder(enc_hook=repr)

    def format(self, record: logging.LogRecord) -> str:
        """One object on one line."""
        time_text = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": time_text.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        line |= {name: vars(record)[name] for name in _NAMED if name in vars(record)}
        line |= _extra(record)
        if record.exc_info or record.exc_text:
            line["exception"] = _exception(self, record)
        if record.stack_info:
            line["stack"] = record.stack_info
        try:
            return self._encoder.encode(line).decode()
        except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
            plain = {str(name): ascii(value) for name, value in line.items()}
            return self._encoder.encode(plain).decode()


def _within(text: str) -> str:
    """What others have made, as a part of one record: nothing in it acts on a terminal or looks like another record."""
    return visible(text, lines=True).replace("\n", "\n    ")


class TextLines(logging.Formatter):
    """`05:06:07.089 INFO  worker: message  (send_email 0192…, attempt 2, trace 0af7…)`, coloured in a terminal."""

    def __init__(self, *, coloured: bool) -> None:
        super().__init__()
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        """A line, and under it the traceback if there is one."""
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        name = record.name.removeprefix("fairlane.")
        level = self._colour(f"{record.levelname:<7}", _COLOURS.get(record.levelname, "0"))
        head = f"{self._colour(f'{moment}.{int(record.msecs):03d}', '2')} {level} {self._colour(name + ':', '2')}"
        text = f"{head} {_within(_message(record))}"
        about = self._about(record)
        if about:
            text += self._colour(f"  ({visible(about)})", "2")
        if record.exc_info or record.exc_text:
            text += _within("\n" + _exception(self, record))
        if record.stack_info:
            text += _within("\n" + self.formatStack(record.stack_info))
        return text

    def _about(self, record: logging.LogRecord) -> str:
        fields = vars(record)
        parts = []
        if "task_id" in fields:
            parts.append(f"{fields.get('task_type', 'task')} {fields['task_id']}")
        elif "batch_size" in fields:
            parts.append(f"{fields.get('task_type', 'task')}")
        if "attempt" in fields:
            parts.append(f"attempt {fields['attempt']}")
        if "trace_id" in fields:
            parts.append(f"trace {fields['trace_id']}")
        parts += [f"{name}={value!r}" for name, value in _extra(record).items()]
        return ", ".join(parts)

    def _colour(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured else text
