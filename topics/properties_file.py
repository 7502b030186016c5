"""A file of librdkafka properties, as kcat and Kafka's own tools have them: `key=value`, one a line.

Invariant: no message of it shows a value: such a file is where secrets are kept.
"""

from __future__ import annotations

from pathlib import Path

from fairlane.topics.errors import UsageError


def read_properties(path: str | Path) -> dict[str, str]:
    """The properties of a file; lines that are empty or begin with `#` are none.

    Raises:
        UsageError: it cannot be read, or a line is no property.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"the Kafka properties in {path} cannot be read: {said}", "Name a file of key=value") from None
    found = {}
    for number, line in enumerate(lines, 1):
        name, separator, value = (part.strip() for part in line.partition("="))
        if not name.startswith("#") and (name or separator):
            if not separator or not name:
                raise UsageError(f"line {number} of {path} is no property", "Write key=value, one a line")
            found[name] = value
    return found
