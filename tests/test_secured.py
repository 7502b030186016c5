"""A queue works by every login there is: TLS with a certificate, SCRAM over TLS, tokens of a function; on every client.

What do these tests do? On one secured broker a producer and a worker in this process, each with the least rights of its
role, do a task with a retry, and commands of a user's look at it.
"""

from __future__ import annotations

import base64
import json
import logging
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from secured_kafka import SecuredKafka
from working_queue import working_queue

from fairlane import Fairlane, RetryPolicy, Settings, context
from fairlane.consumer.pool import WorkerPool
from fairlane.topics.errors import FairlaneError, KafkaRefused, KafkaUnreachable
from fairlane.topics.reader import TopicReader
from fairlane.topics.rights import rights_of
from fairlane.topics.topology import Topology

pytestmark = pytest.mark.kafka


def by_scram(kafka: SecuredKafka, folder: Path) -> tuple[str, dict[str, Any]]:
    user = kafka.user("all")
    tls = {"security.protocol": "SASL_SSL", "ssl.ca.location": kafka.authority.ca_file}
    return user.principal, {"bootstrap.servers": kafka.at("SCRAMTLS"), **user.properties, **tls}


def by_certificate(kafka: SecuredKafka, folder: Path) -> tuple[str, dict[str, Any]]:
    name = f"all-{uuid.uuid4().hex[:6]}"
    tls = {"security.protocol": "SSL", "ssl.ca.location": kafka.authority.ca_file}
    login = kafka.authority.client(name, password="open-the-key-please")
    return f"User:{name}", {"bootstrap.servers": kafka.at("TLS"), **tls, **login}


def token(name: str, lives_s: float = 60.0) -> tuple[str, float]:
    """An unsecured token of KIP-255, which the broker takes for what it says."""

    def part(fields: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")

    now_s = time.time()
    claims = {"sub": name, "iat": now_s - 1, "exp": now_s + lives_s}
    return f"{part({'alg': 'none'})}.{part(claims)}.", now_s + lives_s


def by_token(kafka: SecuredKafka, folder: Path) -> tuple[str, dict[str, Any]]:
    name = f"all-{uuid.uuid4().hex[:6]}"
    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER"}
    login |= {"bootstrap.servers": kafka.at("OAUTH")}
    return f"User:{name}", {**login, "oauth_cb": lambda _config: token(name)}


@pytest.mark.parametrize("login", [by_scram, by_certificate, by_token])
def test_a_queue_works_by_every_login(
    secured: SecuredKafka,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    login: Callable[[SecuredKafka, Path], tuple[str, dict[str, Any]]],
) -> None:
    principal, properties = login(secured, tmp_path)
    settings = Settings(kafka=properties)

    async def twice() -> str:
        if context().attempt == 1:
            raise ValueError("once")
        return "done"

    caplog.set_level(logging.DEBUG)
    with working_queue(secured.admin.bootstrap, partitions=1) as queue:
        topology = Topology.of(queue.names, partitions=1)
        for role in ("producer", "worker", "monitor"):
            secured.access.give([(principal, right) for right in rights_of(role, topology)])
        pool = WorkerPool(replace(queue.config(), connection=settings.connection))
        pool.register_handler("twice", twice, retry=RetryPolicy(max_attempts=2, base_s=1.0, jitter=0))
        with pool, Fairlane(queue.names.queue, settings=settings) as app:
            assert app.enqueue("twice").result(timeout_s=60) == "done"
            assert TopicReader(settings.connection).find(topology).topics.keys() >= {queue.names.lane(3)}
            assert app.handle(app.enqueue("twice").id).result(timeout_s=60) == "done"
    for name in ("sasl.password", "ssl.key.password"):
        if name in properties:
            assert properties[name] not in caplog.text


def test_a_command_finds_the_function_for_tokens_by_its_name(secured: SecuredKafka, tmp_path: Path) -> None:
    name, queue = f"ann-{uuid.uuid4().hex[:6]}", f"t-{uuid.uuid4().hex[:8]}"
    said, expires_s = token(name)
    (tmp_path / "login.py").write_text(f"def token(config):\n    return {said!r}, {expires_s!r}\n")
    (tmp_path / "kafka.properties").write_text(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\noauth_cb=login:token\n"
    )
    url = f"kafka://{secured.at('OAUTH')}/{queue}"
    command = [sys.executable, "-m", "fairlane", "topics", "describe", "--queue-url", url, "-X", "@kafka.properties"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert "has no right to Describe topic" in done.stderr, done
    assert said not in done.stdout + done.stderr


def wrong_password(kafka: SecuredKafka) -> dict[str, Any]:
    return {**kafka.user("x").properties, "bootstrap.servers": kafka.at("SCRAM"), "sasl.password": "not-the-password"}


def other_authority(kafka: SecuredKafka) -> dict[str, Any]:
    return {**kafka.user("x").properties, "bootstrap.servers": kafka.at("SCRAMTLS"), "security.protocol": "SASL_SSL"}


@pytest.mark.parametrize(
    ("login", "error", "said"),
    [
        (wrong_password, KafkaRefused, "let this user in"),
        (other_authority, KafkaUnreachable, "certificate verify failed"),
    ],
)
def test_a_login_that_fails_says_why_and_no_secret(
    secured: SecuredKafka, login: Callable[[SecuredKafka], dict[str, Any]], error: type[FairlaneError], said: str
) -> None:
    connection = Settings(kafka=login(secured)).connection
    with pytest.raises(error, match=said) as caught:
        TopicReader(connection, timeout_s=5).brokers()
    assert "not-the-password" not in str(caught.value)
