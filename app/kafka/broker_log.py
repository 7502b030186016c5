"""The log of a broker: how Kafka is told to write it, and its end for people.

Invariant: each broker writes one file of its own, of bounded size; what is shown was written since the broker's start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

LOG4J2: Final = """\
status=error
shutdownHook=disable
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName=${sys:fairlane.log}
appender.file.filePattern=${sys:fairlane.log}.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{ISO8601} %-5p %m (%c{1})%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
logger.config.name=org.apache.kafka.common.config.AbstractConfig
logger.config.level=WARN
rootLogger.level=INFO
rootLogger.appenderRef.file.ref=file
"""
"""Log4j 2 (Kafka 4 has no other): 30 MB a broker at most. Dumps of all settings are left out."""

_TAIL_BYTES: Final = 64 * 1024
_TAIL_LINES: Final = 15


def size_of(path: Path) -> int:
    """Bytes in the file, 0 if it does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def read_since(path: Path, offset: int) -> str:
    """What was written to `path` after `offset`, its last 64 KiB at most; everything if the file was rolled over."""
    size = size_of(path)
    if size == 0:
        return ""
    begin = offset if offset <= size else 0
    with path.open("rb") as file:
        file.seek(max(begin, size - _TAIL_BYTES))
        return file.read().decode(errors="replace")


def tail(text: str) -> str:
    """The last lines of `text` that say something: of a Java stack trace the messages, not the frames."""
    lines = [line.rstrip() for line in text.splitlines()]
    telling = [line for line in lines if line and not line.lstrip().startswith(("at ", "... "))]
    return "\n".join(telling[-_TAIL_LINES:])
