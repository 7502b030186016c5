"""Records that are no task that anybody here can run, in all the ways that a record can be so.

Invariant: equal seeds make equal records, and none of them can complete: each belongs into the DLQ, for the reason that
it says.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from fairlane.topics.headers import NUMBERS, TABLE
from fairlane.topics.names import QueueNames

TYPE: Final = "add"
"""The one type that there is a handler of, with a payload `{"a": <int>}`."""
_OWN_NAMES: Final = [header.name for header in TABLE]
_NOT_LATER: Final = {"fairlane-not-before-ms", "fairlane-expires-ms"}


class Piece(NamedTuple):
    """One record, and the reason for which it is dead; "" where it may be more than one."""

    value: bytes
    key: bytes | None
    headers: Sequence[tuple[str, bytes]]
    reason: str = ""


class Garbage:
    """Makes records.

    Args:
        seed: of the dice.
        names: of the queue that they are for.
    """

    def __init__(self, seed: int, names: QueueNames) -> None:
        self._dice = random.Random(seed)
        self._names = names
        self._kinds: list[Callable[[], Piece]] = [
            self._bytes,
            self._cut_json,
            self._odd_fields,
            self._wild_headers,
            self._broken_header,
            self._structured,
            self._unknown_type,
            self._unfit,
            self._expired,
            self._odd_reply,
        ]

    def piece(self) -> Piece:
        """The next record."""
        rare = self._dice.random()
        if rare < 0.0002:
            return Piece(self._dice.randbytes(600_000), None, (), "malformed")
        if rare < 0.002:
            return Piece(b'{"type":"add","x":' + b"[" * self._dice.randrange(500, 50_000), None, (), "malformed")
        return self._dice.choice(self._kinds)()

    def _key(self) -> bytes | None:
        return self._dice.choice([None, b"", b"k", self._dice.randbytes(8)])

    def _some_bytes(self) -> bytes:
        return self._dice.randbytes(self._dice.randrange(60))

    def _bytes(self) -> Piece:
        # A first byte that begins no JSON.
        return Piece(b"\xff" + self._some_bytes(), self._key(), (), "malformed")

    def _cut_json(self) -> Piece:
        whole = json.dumps({"type": TYPE, "payload": {"a": self._dice.randrange(99)}, "id": "cut"}).encode()
        return Piece(whole[: self._dice.randrange(len(whole))], self._key(), (), "malformed")

    def _odd_fields(self) -> Piece:
        odd: object = self._dice.choice([None, 7, [], {}, "", "\x00", "x" * 2_000, "\n", True])
        field = self._dice.choice(["type", "id"])
        value: dict[str, object] = {"type": TYPE, "payload": {"a": 1}, "id": "odd"} | {field: odd}
        if value["id"] == "":
            value["id"] = 0  # An empty id is as good as none.
        return Piece(json.dumps(value).encode(), self._key(), (), "malformed")

    def _wild_headers(self) -> Piece:
        names = [self._dice.choice([*_OWN_NAMES, "x", "é", "a" * 300]) for _ in range(self._dice.randrange(1, 6))]
        return Piece(
            b"\x00" + self._some_bytes(), self._key(), [(name, b"\xfe" + self._some_bytes()) for name in names]
        )

    def _broken_header(self) -> Piece:
        name = self._dice.choice([name for name, _, least in NUMBERS])
        wrong = self._dice.choice([b"-1", b"1e9", b"", b" 1", b"9" * 400, b"\xd9\xa3", b"one", b"0x1", b"1.5"])
        return Piece(b'{"a":1}', self._key(), [("ce_type", TYPE.encode()), (name, wrong)], "malformed")

    def _structured(self) -> Piece:
        event = {"specversion": self._dice.choice(["0.3", "2.0", 1]), "type": TYPE, "id": "e", "data": {"a": 1}}
        return Piece(
            json.dumps(event).encode(), self._key(), [("content-type", b"application/cloudevents+json")], "malformed"
        )

    def _unknown_type(self) -> Piece:
        headers = [
            ("ce_type", f"nothing-{self._dice.randrange(1_000)}".encode()),
            ("ce_id", self._some_bytes().hex().encode() or b"i"),
        ]
        headers += [
            (name, b"%d" % self._dice.randrange(max(1, least), 10 ** self._dice.randrange(1, 15)))
            for name, _, least in self._dice.sample(NUMBERS, 3)
            if name not in _NOT_LATER
        ]
        return Piece(self._some_bytes(), self._key(), headers, "no_handler")

    def _unfit(self) -> Piece:
        payload = self._dice.choice(
            [
                b'{"a":"many"}',
                b"[]",
                b"{}",
                b"",
                b"null",
                b"{",
                b'{"a":1e999}',
                b"\xff" + self._some_bytes(),
                b"[" * 9_000,
            ]
        )
        return Piece(payload, self._key(), [("ce_type", TYPE.encode())], "invalid_payload")

    def _expired(self) -> Piece:
        headers = [("ce_type", TYPE.encode()), ("fairlane-expires-ms", b"%d" % self._dice.randrange(1, 10**12))]
        return Piece(b'{"a":1}', self._key(), headers, "expired")

    def _odd_reply(self) -> Piece:
        to = self._dice.choice(
            [f"{self._names.replies}:{self._dice.randrange(50, 99_999)}", "elsewhere:1", f"{self._names.dlq}:0"]
        )
        return Piece(
            b"{}", self._key(), [("ce_type", TYPE.encode()), ("fairlane-reply-to", to.encode())], "invalid_payload"
        )
