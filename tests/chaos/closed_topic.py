"""A topic that refuses every write for a while, as one on a full disk or without a right does.

Invariant: closing and opening last until Kafka says that it is done, or fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from chaos.brokers import USER

ASK_S: Final = 30.0
TRIES: Final = 5
_DENIED: Final = (f"User:{USER}", "*", AclOperation.WRITE, AclPermissionType.DENY)
_ALLOWED: Final = (f"User:{USER}", "*", AclOperation.ALL, AclPermissionType.ALLOW)


def _insist(call: Callable[[], object]) -> None:
    """A broker that is away, or a controller that has moved, is asked again."""
    for _ in range(TRIES - 1):
        try:
            call()
            return
        except KafkaException:
            continue
    call()


def close_topic(admin: AdminClient, topic: str) -> None:
    """No client may write it from now on."""
    # Where there is any rule, what none allows is denied; this one stays.
    rules = [AclBinding(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, *each) for each in (_ALLOWED, _DENIED)]
    _insist(lambda: [each.result(ASK_S) for each in admin.create_acls(rules, request_timeout=ASK_S).values()])


def open_topic(admin: AdminClient, topic: str) -> None:
    """Everybody may again."""
    rule = AclBindingFilter(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, *_DENIED)
    _insist(lambda: admin.delete_acls([rule], request_timeout=ASK_S)[rule].result(ASK_S))
