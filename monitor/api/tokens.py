"""Who may ask and who may act: bearer tokens, each with a name and a role.

Invariant: without tokens nobody but this machine is let in, and there everybody is an operator. Comparing takes as long
whatever is given.

Source: RFC 6750 (bearer tokens).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from typing import Final, Literal, get_args

from fairlane.topics import secrets
from fairlane.topics.errors import UsageError

Role = Literal["viewer", "operator"]
"""A viewer looks; an operator acts too."""

MIN_SECRET: Final = 16


@dataclass(frozen=True)
class Caller:
    """Who asks: the name of the token, for the audit, and what it may."""

    name: str
    role: Role


class Tokens:
    """The tokens that are let in.

    Args:
        text: `NAME:ROLE:SECRET`, comma-separated; "" is none.

    Raises:
        UsageError: it is not of that form, or a secret is too short, or a name or a secret is there twice.
    """

    def __init__(self, text: str) -> None:
        self._callers: dict[bytes, Caller] = {}
        names = set[str]()
        for number, part in enumerate(filter(None, (part.strip() for part in text.split(","))), 1):
            name, _, rest = part.partition(":")
            role, _, secret = rest.partition(":")
            if not name or role not in get_args(Role) or len(secret) < MIN_SECRET:
                raise UsageError(
                    f"token {number} of the monitor is none",
                    f"Write NAME:ROLE:SECRET, the role {' or '.join(get_args(Role))}, the secret of {MIN_SECRET}"
                    ' characters at least: python -c "import secrets; print(secrets.token_urlsafe(24))" makes one',
                )
            digest = _digest(secret)
            if name in names or digest in self._callers:
                raise UsageError(
                    f"token {number} of the monitor is there twice", "Give each a name and secret of its own"
                )
            names.add(name)
            secrets.keep(secret)
            self._callers[digest] = Caller(name, "operator" if role == "operator" else "viewer")

    def __bool__(self) -> bool:
        return bool(self._callers)

    def caller(self, authorization: str) -> Caller | None:
        """Who the value of an Authorization header is of; None if it is nobody's."""
        scheme, _, secret = authorization.partition(" ")
        given = _digest(secret.strip())
        found = None
        for digest, caller in self._callers.items():
            if hmac.compare_digest(digest, given):
                found = caller
        return found if scheme.lower() == "bearer" else None


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine only; a port may follow."""
    name = host.strip().lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def require_tokens(tokens: Tokens, host: str) -> None:
    """Refuse to listen where others reach it without tokens.

    Raises:
        UsageError: there are none, and the host is not this machine only.
    """
    if not tokens and not is_loopback(host):
        raise UsageError(
            f"the monitor has no tokens, and {host} can be reached from other machines",
            "Set FAIRLANE_MONITOR_TOKENS=NAME:ROLE:SECRET, or listen on 127.0.0.1",
        )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
