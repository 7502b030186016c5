"""Tokens for OAUTHBEARER from a function of the user's: `oauth_cb`.

Invariant: a token that was handed out is a secret from then on. The function is looked for when the first token is
wanted, on a thread of librdkafka's: settings may name one of a module that itself needs them.

Source: KIP-255; confluent-kafka's `oauth_cb`.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fairlane.topics import secrets
from fairlane.topics.errors import UsageError
from fairlane.topics.secrets import redacted

_log: Final = logging.getLogger("fairlane")


class TokenSource:
    """Calls a function for a token.

    Args:
        target: the function, or where it is as `module:function`, importable also from the current directory. It takes
            `sasl.oauthbearer.config` (a str) and returns the token and when it expires (Unix time, seconds), and with
            them, if it likes, the principal and a dict of SASL extensions.
    """

    def __init__(self, target: str | Callable[[str], tuple[Any, ...]]) -> None:
        if isinstance(target, str) and not all(target.partition(":")):
            raise UsageError(f"oauth_cb is {target!r}", "Write module:function, such as shop.login:token")
        self._target = target

    def __call__(self, config: str) -> tuple[Any, ...]:
        """A new token."""
        if isinstance(self._target, str):
            self._target = _load(self._target)
        try:
            answer = self._target(config)
        except Exception as error:
            # librdkafka says only that there is no token, and that after ten seconds.
            text = redacted(f"{type(error).__name__}: {error}")
            _log.error("no token for Kafka: oauth_cb failed: %s", text)
            raise
        secrets.keep(answer[0])
        return answer

    def __repr__(self) -> str:
        return f"<TokenSource {self._target if isinstance(self._target, str) else self._target.__qualname__}>"


def _load(target: str) -> Callable[[str], tuple[Any, ...]]:
    module, _, name = target.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found = getattr(importlib.import_module(module), name, None)
    if not callable(found):
        raise UsageError(f"oauth_cb names {target!r}, which is no function", "Write module:function")
    return found  # type: ignore[no-any-return]
