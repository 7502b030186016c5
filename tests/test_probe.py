"""Asking a broker what it can do: over plain sockets, over TLS, and where there is no broker."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import broker_answers
import pytest
import trustme

from fairlane.topics import api_versions
from fairlane.topics.check import require_modern
from fairlane.topics.connection import Connection
from fairlane.topics.errors import KafkaTooOld, KafkaUnreachable
from fairlane.topics.probe import ask_broker

WAIT_S = 20.0
REQUEST = api_versions.request("fairlane", "1")


@contextmanager
def server(talk: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Something that listens on localhost and talks to whoever connects; yields host:port."""
    with socket.create_server(("localhost", 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    connected, _ = listening.accept()
                except OSError:
                    return
                with connected:
                    try:
                        if tls is None:
                            talk(connected)
                        else:
                            with tls.wrap_socket(connected, server_side=True) as secure:
                                talk(secure)
                    except OSError:
                        continue  # the client gave up, as it may

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"localhost:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(WAIT_S)


def broker(answer: bytes) -> Callable[[socket.socket], None]:
    """A broker that answers our request, in two parts, as a network may cut it."""

    def talk(connected: socket.socket) -> None:
        received = b""
        while len(received) < len(REQUEST):
            received += connected.recv(len(REQUEST) - len(received))
        assert received == REQUEST
        framed = len(answer).to_bytes(4, "big") + answer
        connected.sendall(framed[:3])
        connected.sendall(framed[3:])

    return talk


def hang_up(connected: socket.socket) -> None:
    """Close at once."""


def unused() -> str:
    with socket.create_server(("localhost", 0)) as listening:
        return f"localhost:{listening.getsockname()[1]}"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def authority_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def test_a_broker_is_asked_what_it_can_do() -> None:
    with server(broker(broker_answers.KAFKA_4_3_1)) as address:
        answer = ask_broker(Connection(address), WAIT_S)
    assert answer == api_versions.read_answer(broker_answers.KAFKA_4_3_1)


def test_an_old_cluster_is_refused_with_what_it_lacks() -> None:
    with (
        server(broker(broker_answers.KAFKA_3_9_1)) as address,
        pytest.raises(KafkaTooOld, match=r"older than Kafka 4\.0.*KIP-848") as caught,
    ):
        require_modern(Connection(address), timeout_s=WAIT_S)
    assert caught.value.exit_code == 4


def test_the_next_server_is_asked_where_nothing_listens_at_the_first() -> None:
    with server(broker(broker_answers.KAFKA_4_3_1)) as address:
        assert ask_broker(Connection(f"{unused()},{address}"), WAIT_S) is not None


def test_nothing_that_listens_anywhere_is_unreachable_at_once_and_says_why() -> None:
    first, second = unused(), unused()
    with pytest.raises(KafkaUnreachable, match="Connection refused") as caught:
        ask_broker(Connection(f"{first},{second}"), WAIT_S)
    assert caught.value.timeout_s == 0
    assert first in caught.value.detail
    assert second in caught.value.detail
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("talk", [hang_up, broker(b"\0\0\3\x50\0\0\xff")])
def test_something_that_does_not_answer_as_kafka_does_is_left_to_librdkafka(
    talk: Callable[[socket.socket], None],
) -> None:
    with server(talk) as address:
        assert ask_broker(Connection(address), WAIT_S) is None


def test_a_broker_that_says_nothing_takes_no_longer_than_it_was_given() -> None:
    with socket.create_server(("localhost", 0)) as silent:
        address = f"localhost:{silent.getsockname()[1]}"
        assert ask_broker(Connection(address), 0.2) is None


@pytest.mark.parametrize("protocol", ["SSL", "sasl_ssl"])
def test_tls_is_made_from_librdkafkas_own_properties(authority_file: Path, tls: ssl.SSLContext, protocol: str) -> None:
    properties = {"security.protocol": protocol, "ssl.ca.location": str(authority_file)}
    with server(broker(broker_answers.KAFKA_4_3_1), tls) as address:
        assert ask_broker(Connection(address, properties), WAIT_S) is not None


def test_an_authority_may_be_given_as_text(authority_file: Path, tls: ssl.SSLContext) -> None:
    properties = {"security.protocol": "SSL", "ssl.ca.pem": authority_file.read_text()}
    with server(broker(broker_answers.KAFKA_4_3_1), tls) as address:
        assert ask_broker(Connection(address, properties), WAIT_S) is not None


def test_a_client_certificate_is_shown(
    authority: trustme.CA, authority_file: Path, tls: ssl.SSLContext, tmp_path: Path
) -> None:
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(tls)
    client = authority.issue_cert("ann@example.com")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    for blob in client.cert_chain_pems:
        blob.write_to_path(str(certificate), append=True)
    client.private_key_pem.write_to_path(str(key))
    properties = {
        "security.protocol": "SSL",
        "ssl.ca.location": str(authority_file),
        "ssl.certificate.location": str(certificate),
        "ssl.key.location": str(key),
    }
    with server(broker(broker_answers.KAFKA_4_3_1), tls) as address:
        assert ask_broker(Connection(address, properties), WAIT_S) is not None


@pytest.mark.parametrize(
    ("properties", "trusted"),
    [
        ({}, False),
        ({"enable.ssl.certificate.verification": "false"}, True),
        ({"enable.ssl.certificate.verification": False}, True),
        ({"ssl.endpoint.identification.algorithm": "none"}, False),
    ],
)
def test_a_certificate_of_an_unknown_authority_is_trusted_only_if_the_user_says_so(
    tls: ssl.SSLContext, properties: dict[str, object], trusted: bool
) -> None:
    with server(broker(broker_answers.KAFKA_4_3_1), tls) as address:
        answer = ask_broker(Connection(address, {"security.protocol": "SSL", **properties}), WAIT_S)
    assert (answer is not None) == trusted


@pytest.mark.parametrize(
    ("server_name", "host", "port"),
    [
        ("h1:9093", "h1", 9093),
        ("h1", "h1", 9092),
        (" h1:9093 ", "h1", 9093),
        ("SASL_SSL://h1:9093", "h1", 9093),
        ("[::1]:9093", "::1", 9093),
        ("[::1]", "::1", 9092),
    ],
)
def test_every_form_of_an_address_that_librdkafka_takes_is_understood(server_name: str, host: str, port: int) -> None:
    from fairlane.topics.probe import _host_and_port

    assert _host_and_port(server_name) == (host, port)
