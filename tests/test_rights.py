"""The rights of each role are declared once: what is printed and documented is what is declared, and no more than that.

That they are enough, and that each is needed, is in test_missing_rights.py.
"""

from __future__ import annotations

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fairlane.cli.acls import rows
from fairlane.cli.main import app
from fairlane.topics.errors import UsageError
from fairlane.topics.names import Lane, QueueNames
from fairlane.topics.rights import DOES, ROLES, Right, Role, commands, rights_of
from fairlane.topics.topology import Topology

NAMES = QueueNames("shop")
TOPOLOGY = Topology.of(NAMES)
PAGE = (Path(__file__).parent.parent / "docs" / "security.md").read_text()
IMPLIES = {"Read": {"Describe"}, "Write": {"Describe"}, "Delete": {"Describe"}, "Alter": {"Describe"}}
IMPLIES["AlterConfigs"] = {"DescribeConfigs"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["topics", "acls", "--queue", "shop", *arguments])


def shortened(on: str) -> str:
    """The names of a row as the page says them."""
    specs = TOPOLOGY.specs
    for word, names in (
        ("all", [spec.name for spec in specs]),
        ("lanes", [spec.name for spec in specs if spec.role == "lane"]),
        ("tiers", [spec.name for spec in specs if spec.role == "tier"]),
    ):
        on = on.replace(" ".join(names), word)
    kind, *names = on.split()
    return ", ".join([f"{kind} {names[0]}", *names[1:]])


@pytest.mark.parametrize("role", ROLES)
def test_the_page_says_what_is_declared(role: Role) -> None:
    found = re.search(rf"^### {role.capitalize()}\n\n(.*?)\n\n.*?\| may \|.*?\n\|.*?\n(.*?)\n\n", PAGE, re.M | re.S)
    assert found, f"docs/security.md has no table of {role}"
    cells = [[cell.strip().replace("`", "") for cell in line.strip("|").split(" | ")] for line in found[2].splitlines()]
    own = rights_of(role, TOPOLOGY)
    if role == "operator":
        own = tuple(right for right in own if right not in rights_of("monitor", TOPOLOGY))
    assert cells == [[may, shortened(on), why] for may, on, why in rows(own)]
    assert DOES[role].lower() in found[1].lower()


@pytest.mark.parametrize("role", ROLES)
def test_rights_are_given_on_what_is_the_queues_only_and_none_twice(role: Role) -> None:
    declared = {spec.name for spec in TOPOLOGY.specs}
    rights = rights_of(role, TOPOLOGY)
    for right in rights:
        assert right.resource != "cluster"
        if right.resource == "topic":
            assert right.name in declared
        else:
            assert right.name.startswith(NAMES.group)
    given = {(right.resource, right.name, right.operation) for right in rights}
    implied = {
        (right.resource, right.name, each) for right in rights for each in IMPLIES.get(right.operation, frozenset())
    }
    assert not given & implied, "one right brings another one with it"


def test_only_an_admin_may_make_or_alter_topics() -> None:
    for role in ROLES:
        operations = {right.operation for right in rights_of(role, TOPOLOGY)}
        assert bool(operations & {"Create", "Alter", "AlterConfigs"}) is (role == "admin")


def test_who_only_looks_or_enqueues_may_delete_nothing() -> None:
    deleting = {role for role in ROLES if any(right.operation == "Delete" for right in rights_of(role, TOPOLOGY))}
    assert deleting == {"worker", "operator", "admin"}


def test_a_lane_of_somebody_elses_is_read_and_written_and_never_changed() -> None:
    foreign = Topology.of(NAMES, lanes=[*NAMES.default_lanes(), Lane("orders", 9, 1, default_type="place")])
    found = {role: {r.operation for r in rights_of(role, foreign) if r.name == "orders"} for role in ROLES}
    assert found == {
        "producer": {"Write"},
        "worker": {"Read"},
        "monitor": {"Read"},
        "operator": {"Read", "Write"},
        "admin": {"Describe"},
    }


def test_the_commands_give_exactly_what_is_declared() -> None:
    for role in ROLES:
        given = set()
        for command in commands("User:CN=ann, O=shop", rights_of(role, TOPOLOGY), "h:9092"):
            words = shlex.split(command)
            assert words[:3] == ["kafka-acls.sh", "--bootstrap-server", "h:9092"]
            pairs = list(pairwise(words))
            assert ("--allow-principal", "User:CN=ann, O=shop") in pairs
            operations = [value for option, value in pairs if option == "--operation"]
            prefixed = "prefixed" in words
            for option, value in pairs:
                if option in ("--topic", "--group", "--transactional-id"):
                    given |= {(option.removeprefix("--"), value, operation, prefixed) for operation in operations}
        wanted = {(r.resource, r.name, r.operation, r.prefixed) for r in rights_of(role, TOPOLOGY)}
        assert given == wanted


def test_without_a_principal_the_roles_are_shown_with_reasons() -> None:
    result = run()
    assert result.exit_code == 0
    for role in ROLES:
        assert f"{role}: {DOES[role]}" in result.stdout
        for right in rights_of(role, TOPOLOGY):
            assert right.why in result.stdout


def test_a_name_alone_is_a_users() -> None:
    result = run("--worker", "ann", "--monitor", "User:CN=bob,O=shop")
    assert "--allow-principal User:ann " in result.stdout
    assert "--allow-principal User:CN=bob,O=shop " in result.stdout
    assert "# producer" not in result.stdout


def test_as_json_they_are_for_other_tools() -> None:
    shown = json.loads(run("--json").stdout)
    assert {entry["role"] for entry in shown} == set(ROLES)
    (only,) = [entry for entry in json.loads(run("--worker", "ann", "--json").stdout) if entry["pattern"] == "prefixed"]
    assert only == {
        "role": "worker",
        "principal": "User:ann",
        "operation": "Write",
        "resource": "transactional-id",
        "name": "fairlane-shop-",
        "pattern": "prefixed",
        "why": "settling, one id a start; ending that of the dead",
    }


@pytest.mark.parametrize("arguments", [("--apply",), ("--worker", " "), ("--worker", "ann", "--apply", "--json")])
def test_what_makes_no_sense_is_refused_before_anything_is_done(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, UsageError)


def test_a_role_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="producer, worker, monitor, operator, admin"):
        rights_of("king", TOPOLOGY)


def test_a_right_is_read_aloud() -> None:
    assert str(Right("topic", "shop.p3", "Read")) == "Read topic shop.p3"
    assert str(Right("transactional-id", "fairlane-shop-", "Write", prefixed=True)) == (
        "Write transactional-id that begins with fairlane-shop-"
    )
