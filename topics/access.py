"""Give rights, take them away, and see which are given: Kafka's ACLs.

Invariant: it adds and removes exactly what it is told, for whoever it is told; giving twice is giving once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are in its documentation
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from fairlane.topics.admin_client import Admin
from fairlane.topics.connection import Connection
from fairlane.topics.deadline import Deadline
from fairlane.topics.reader import DEFAULT_TIMEOUT_S
from fairlane.topics.rights import CLUSTER, Right

Grant = tuple[str, Right]
"""A principal, such as `User:shop-worker`, and what it may do."""

_KINDS: Final = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional-id": ResourceType.TRANSACTIONAL_ID,
    "cluster": ResourceType.BROKER,
}
_OPERATIONS: Final = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Delete": AclOperation.DELETE,
    "Alter": AclOperation.ALTER,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "AlterConfigs": AclOperation.ALTER_CONFIGS,
}
_EVERY_HOST: Final = "*"
_CHANGE: Final = Right("cluster", CLUSTER, "Alter")
_LOOK: Final = Right("cluster", CLUSTER, "Describe")


class Access:
    """The ACLs of a cluster. Its methods need the right to Alter the cluster, or to Describe it where they only look.

    Every method raises KafkaUnreachable if no answer came in time, RightMissing if the caller may not do that, and
    KafkaRefused if the cluster has no authorizer.

    Args:
        connection: to the cluster.
        timeout_s: how long each method may take, seconds.
    """

    def __init__(self, connection: Connection, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._admin = Admin(connection)
        self._timeout_s = timeout_s

    def lacking(self, grants: Iterable[Grant]) -> list[Grant]:
        """Those of the grants that are not given in these very words; a wider one may imply them all the same."""
        asked = list(grants)
        deadline = Deadline(self._timeout_s)
        given: set[AclBinding] = set()
        for principal in {principal for principal, _ in asked}:
            future = self._admin.client.describe_acls(_of(principal), request_timeout=self._admin.patience_s(deadline))
            answers = self._admin.ask("show the ACLs", {principal: future}, deadline)
            for error in answers.errors.values():
                raise self._admin.refused("show the ACLs", error, _LOOK)
            given.update(*answers.values())
        return [grant for grant in asked if _binding(*grant) not in given]

    def give(self, grants: Sequence[Grant]) -> None:
        """Add the ACLs that allow this, and leave all others as they are."""
        if not grants:
            return
        deadline = Deadline(self._timeout_s)
        asked = [_binding(*grant) for grant in grants]
        futures = self._admin.client.create_acls(asked, request_timeout=self._admin.patience_s(deadline))
        for error in self._admin.ask("add ACLs", futures, deadline).errors.values():
            raise self._admin.refused("add ACLs", error, _CHANGE)

    def take(self, grants: Sequence[Grant]) -> None:
        """Remove exactly these ACLs."""
        if not grants:
            return
        deadline = Deadline(self._timeout_s)
        asked = [_filter(*grant) for grant in grants]
        futures = self._admin.client.delete_acls(asked, request_timeout=self._admin.patience_s(deadline))
        for error in self._admin.ask("remove ACLs", futures, deadline).errors.values():
            raise self._admin.refused("remove ACLs", error, _CHANGE)


def _place(principal: str, right: Right) -> tuple[ResourceType, str, ResourcePatternType, str, str, AclOperation]:
    pattern = ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL
    operation = _OPERATIONS[right.operation]
    return _KINDS[right.resource], right.name, pattern, principal, _EVERY_HOST, operation


def _binding(principal: str, right: Right) -> AclBinding:
    return AclBinding(*_place(principal, right), AclPermissionType.ALLOW)


def _filter(principal: str, right: Right) -> AclBindingFilter:
    return AclBindingFilter(*_place(principal, right), AclPermissionType.ALLOW)


def _of(principal: str) -> AclBindingFilter:
    return AclBindingFilter(
        ResourceType.ANY,
        None,  # type: ignore[arg-type]  # any name, by its documentation
        ResourcePatternType.ANY,
        principal,
        None,  # type: ignore[arg-type]  # any host
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
