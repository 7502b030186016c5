"""Ask a broker what it can do, over a socket of our own: librdkafka has no call for it.

Invariant: one request that needs no rights and carries nothing of the user's, sent before any login; at most
`timeout_s` in all. TLS is made from the same librdkafka properties, as far as Python can read them.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairlane.topics import api_versions
from fairlane.topics.api_versions import BrokerApis
from fairlane.topics.connection import Connection
from fairlane.topics.errors import KafkaUnreachable

_VERSION = "1"


def ask_broker(connection: Connection, timeout_s: float) -> BrokerApis | None:
    """What the first broker that answers can do; the cluster's features are the same whichever is asked.

    Returns:
        The answer, or None where something listens but a plain request does not get through to it (a TLS set-up that
        Python cannot read, say): the caller then has to find out in another way.

    Raises:
        KafkaUnreachable: nothing listens at any of the bootstrap servers.
    """
    properties = connection.admin()
    servers = str(properties["bootstrap.servers"]).split(",")
    deadline = time.monotonic() + timeout_s
    failures = []
    connected = False
    for left, server in zip(range(len(servers), 0, -1), servers, strict=True):
        # A host that swallows packets leaves its share of the time to the others.
        share_s = max(0.05, (deadline - time.monotonic()) / left)
        host, port = _host_and_port(server)
        try:
            with socket.create_connection((host, port), timeout=share_s) as plain:
                connected = True
                plain.settimeout(share_s)
                return _exchange(plain, host, properties)
        except (OSError, ValueError) as error:
            which = f"{server.strip()}: " if len(servers) > 1 else ""
            failures.append(f"{which}{getattr(error, 'strerror', None) or error}")
    if connected:
        return None
    spent_s = timeout_s if deadline <= time.monotonic() else 0
    raise KafkaUnreachable(str(properties["bootstrap.servers"]), spent_s, "; ".join(failures))


def _host_and_port(server: str) -> tuple[str, int]:
    # librdkafka allows PROTOCOL://host:port, host:port, host and [ipv6]:port.
    address = server.strip().rpartition("://")[2]
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or (":" in host and not host.endswith("]")):
        host, port = address, "9092"
    return host.strip("[]"), int(port)


def _exchange(plain: socket.socket, host: str, properties: Mapping[str, Any]) -> BrokerApis:
    protocol = str(properties.get("security.protocol", "plaintext")).upper()
    if protocol in ("SSL", "SASL_SSL"):
        with tls_context(properties).wrap_socket(plain, server_hostname=host) as secure:
            return _request(secure)
    return _request(plain)


def _request(connected: socket.socket) -> BrokerApis:
    connected.sendall(api_versions.request("fairlane", _VERSION))
    return api_versions.read_answer(_receive(connected, api_versions.answer_size(_receive(connected, 4))))


def _receive(connected: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = connected.recv(size - len(received))
        if not part:
            raise ValueError("it closed the connection without an answer")
        received += part
    return received


def tls_context(properties: Mapping[str, Any]) -> ssl.SSLContext:
    """A TLS context as librdkafka would make it from these properties (PEM files and strings; no key stores).

    Raises:
        OSError: a file cannot be read, or is no PEM.
    """
    location, pem = properties.get("ssl.ca.location", ""), properties.get("ssl.ca.pem", "")
    context = ssl.create_default_context()
    if pem:
        context.load_verify_locations(cadata=pem)
    if location and location != "probe":
        is_folder = Path(location).is_dir()
        context.load_verify_locations(cafile=None if is_folder else location, capath=location if is_folder else None)
    if str(properties.get("ssl.endpoint.identification.algorithm", "https")) == "none":
        context.check_hostname = False
    if str(properties.get("enable.ssl.certificate.verification", "true")).lower() == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate = properties.get("ssl.certificate.location")
    if certificate:
        context.load_cert_chain(certificate, properties.get("ssl.key.location"), properties.get("ssl.key.password", ""))
    return context
