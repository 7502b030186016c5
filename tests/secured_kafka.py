"""One broker that lets nobody do what no ACL allows: doors with SCRAM, with OAUTHBEARER, with TLS and with both.

Invariant: whoever comes by the plain door, which only these tests know, is its administrator. Nothing of it stays.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are in its documentation
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives import serialization
from live_queue import wait_until

from fairlane import Settings
from fairlane.kafka import EmbeddedKafka
from fairlane.kafka.properties import Listener
from fairlane.topics.access import Access
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.connection import Connection
from fairlane.topics.rights import Right

TIMEOUT_S = 20
LISTENERS = (
    Listener("SCRAM", "SASL_PLAINTEXT"),
    Listener("OAUTH", "SASL_PLAINTEXT"),
    Listener("TLS", "SSL"),
    Listener("SCRAMTLS", "SASL_SSL"),
)
_SASL = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and files of what it has signed."""

    ca: trustme.CA
    folder: Path

    @property
    def ca_file(self) -> str:
        path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(path))
        return str(path)

    def client(self, name: str, password: str = "") -> dict[str, str]:
        """The properties of a client whose principal is `User:name`; its key is encrypted if it has a password."""
        leaf = self.ca.issue_cert(f"{name}@example.com", common_name=name)
        chain, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.write_bytes(_pkcs8(leaf, password))
        found = {"ssl.certificate.location": str(chain), "ssl.key.location": str(key)}
        return {**found, "ssl.key.password": password} if password else found

    def broker(self) -> dict[str, str]:
        """The server properties of a broker at loopback."""
        leaf = self.ca.issue_cert("127.0.0.1", "localhost", key_type=trustme.KeyType.RSA)
        store, trust = self.folder / "broker.pem", self.folder / "trust.pem"
        # Java reads keys in PKCS #8 only.
        store.write_bytes(_pkcs8(leaf) + b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        self.ca.cert_pem.write_to_path(str(trust))
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(store),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(trust),
            "listener.name.tls.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
        }


def _pkcs8(leaf: trustme.LeafCert, password: str = "") -> bytes:
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        protection = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


class SecuredKafka:
    """A running broker of that kind."""

    def __init__(self, kafka: EmbeddedKafka, authority: Authority) -> None:
        self._kafka = kafka
        self.authority = authority
        self.admin = Connection(kafka.bootstrap)
        self.access = Access(self.admin, timeout_s=TIMEOUT_S)
        self._client = AdminClient(dict(self.admin.admin()), logger=librdkafka_log)

    def at(self, listener: str) -> str:
        """The bootstrap servers of a door."""
        return self._kafka.bootstrap_of(listener)

    def user(self, role: str) -> User:
        """Somebody new, who may do nothing yet."""
        name, password = f"{role}-{uuid.uuid4().hex[:6]}", uuid.uuid4().hex
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(name, info, password.encode())
        for done in self._client.alter_user_scram_credentials([change]).values():
            done.result(TIMEOUT_S)
        # The answer is the controller's, and may come before the broker knows of it; so are those below.
        wait_until(lambda: self._is_known(name), f"the broker knows {name}")
        return User(name, password, self.at("SCRAM"))

    def give(self, user: User, rights: Iterable[Right]) -> None:
        grants = [(user.principal, right) for right in rights]
        self.access.give(grants)
        wait_until(lambda: not self.access.lacking(grants), "they are given")

    def take(self, user: User, rights: Iterable[Right]) -> None:
        grants = [(user.principal, right) for right in rights]
        self.access.take(grants)
        wait_until(lambda: len(self.access.lacking(grants)) == len(grants), "they are taken")

    def _is_known(self, name: str) -> bool:
        asked = self._client.describe_user_scram_credentials([name])
        assert isinstance(asked, dict)
        try:
            return bool(asked[name].result(TIMEOUT_S).scram_credential_infos)
        except KafkaException:
            return False


@dataclass(frozen=True)
class User:
    """Somebody who logs in by SCRAM."""

    name: str
    password: str
    bootstrap: str

    @property
    def principal(self) -> str:
        return f"User:{self.name}"

    @property
    def properties(self) -> dict[str, str]:
        return {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": self.name,
            "sasl.password": self.password,
        }

    @property
    def connection(self) -> Connection:
        return Connection(self.bootstrap, self.properties)

    @property
    def settings(self) -> Settings:
        return Settings(kafka={"bootstrap.servers": self.bootstrap, **self.properties})

    def environ(self, queue: str) -> Mapping[str, Any]:
        """The environment of a command that this user types."""
        properties = {
            f"FAIRLANE_KAFKA__{name.upper().replace('.', '_')}": each for name, each in self.properties.items()
        }
        return {"FAIRLANE_QUEUE_URL": f"kafka://{self.bootstrap}/{queue}", **properties}


@contextmanager
def secured_kafka(folder: Path) -> Iterator[SecuredKafka]:
    """Start one; `folder` takes the certificates."""
    authority = Authority(trustme.CA(key_type=trustme.KeyType.RSA), folder)
    scram = f'{_SASL}.scram.ScramLoginModule required username="nobody" password="nobody";'
    oauth = f'{_SASL}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="nobody";'
    properties = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
        "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config": scram,
        "listener.name.scramtls.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scramtls.scram-sha-512.sasl.jaas.config": scram,
        "listener.name.oauth.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.oauth.oauthbearer.sasl.jaas.config": oauth,
        **authority.broker(),
    }
    with EmbeddedKafka(listeners=LISTENERS, properties=properties) as kafka:
        yield SecuredKafka(kafka, authority)
