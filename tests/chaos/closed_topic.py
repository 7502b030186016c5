"""A topic that refuses every write for a while, as one on a full disk or without a right does.

Invariant: neither takes long: where no broker answers, the storm has others to mend first, and asks again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from chaos.brokers import USER

ASK_S: Final = 4.0
_DENIED: Final = (f"User:{USER}", "*", AclOperation.WRITE, AclPermissionType.DENY)
_ALLOWED: Final = (f"User:{USER}", "*", AclOperation.ALL, AclPermissionType.ALLOW)


def _is_done(call: Callable[[], object]) -> bool:
    try:
        call()
    except (KafkaException, TimeoutError):
        return False
    return True


def close_topic(admin: AdminClient, topic: str) -> bool:
    """No client may write it from now on; False if Kafka did not say so in time: it may be so or not."""
    # Where there is any rule, what none allows is denied; this one stays.
    rules = [AclBinding(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, *each) for each in (_ALLOWED, _DENIED)]
    return _is_done(lambda: [each.result(ASK_S) for each in admin.create_acls(rules, request_timeout=ASK_S).values()])


def open_topic(admin: AdminClient, topic: str) -> bool:
    """Everybody may again; False as in `close_topic`."""
    rule = AclBindingFilter(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, *_DENIED)
    return _is_done(lambda: admin.delete_acls([rule], request_timeout=ASK_S)[rule].result(ASK_S))
