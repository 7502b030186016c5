"""What must never be shown: which properties are secrets, and texts without them.

Invariant: a secret that this process was given for Kafka is in no text that went through `redacted`, whoever made the
text; `shown` tells of properties without their secrets, however short those are.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from typing import Any, Final

HIDDEN: Final = "***"

_SECRET: Final = re.compile(r"pass(word|phrase)|secret|private|token$|\.key\.pem|^ssl_key$|oauthbearer\.config")
_USERINFO: Final = re.compile(r"(?<=//)[^/@\s]*@")
_LEAST: Final = 8
"""Shorter ones are not looked for in texts: whoever has `kafka` for a password would read nothing any more."""
_LEAST_OF_LINE: Final = 24

_lock = threading.Lock()
_kept: tuple[str, ...] = ()


def is_secret(name: str) -> bool:
    """Whether a librdkafka property is one that nobody may see."""
    return _SECRET.search(name.lower()) is not None


def shown(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Properties as they may be shown."""
    return {name: HIDDEN if is_secret(name) and value != "" else value for name, value in properties.items()}


def keep(*values: object) -> None:
    """Have `redacted` leave these out from now on; what is no text, or too short to be told from others, is ignored."""
    global _kept
    forms: set[str] = set()
    for value in values:
        if isinstance(value, str):
            # A key is shown line by line, in a traceback or in an error of OpenSSL.
            forms.update(line for line in value.splitlines() if len(line) >= _LEAST_OF_LINE and "-----" not in line)
            quoted = repr(value)[1:-1]
            forms.update((value, quoted, json.dumps(value)[1:-1], json.dumps(quoted)[1:-1]))
    with _lock:
        _kept = tuple(sorted({each for each in (*_kept, *forms) if len(each) >= _LEAST}, key=len, reverse=True))


def redacted(text: str) -> str:
    """The text without any secret that was kept, and without what stands before the host of a URL."""
    for secret in _kept:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return _USERINFO.sub(f"{HIDDEN}@", text) if "@" in text else text
