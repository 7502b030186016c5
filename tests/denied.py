"""Rights on a broker with an authorizer, where everybody may do what no ACL is about: taken away, and given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are in its documentation
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
"""Server properties of such a broker."""
TOPIC, GROUP, TRANSACTIONAL_ID = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID
_WHO = ("User:ANONYMOUS", "*")


@contextmanager
def denied(bootstrap: str, resource: Any, name: str, operation: str) -> Iterator[None]:
    """While it lasts, nobody may do this to a resource, and anything else; of transactional ids it is a prefix."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    pattern = ResourcePatternType.PREFIXED if resource is TRANSACTIONAL_ID else ResourcePatternType.LITERAL
    place = (resource, name, pattern, *_WHO)
    # An ACL that denies something ends what is allowed for want of one.
    rest = AclBinding(*place, AclOperation.ALL, AclPermissionType.ALLOW)
    no = AclBinding(*place, AclOperation[operation], AclPermissionType.DENY)
    for done in admin.create_acls([rest, no]).values():
        done.result(60)
    try:
        yield
    finally:
        gone = AclBindingFilter(*place, AclOperation.ANY, AclPermissionType.ANY)
        for removed in admin.delete_acls([gone]).values():
            removed.result(60)
