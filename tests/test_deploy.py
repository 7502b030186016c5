"""What is shipped for running fairlane elsewhere says the same thing everywhere: image, compose file, manifests.

These tests only read the files; `make test-docker` runs them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlane import Settings
from fairlane.monitor.api.tokens import Caller, Tokens
from fairlane.topics.names import DEFAULT_PARTITIONS, LEVELS, QueueNames

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "deploy/k8s/base"
HOME = "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
MANIFESTS = sorted((ROOT / "deploy/k8s").rglob("*.yaml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    services: dict[str, Any] = load(ROOT / "docker-compose.yml")["services"]
    return services


@pytest.fixture(scope="module")
def worker() -> dict[str, Any]:
    spec: dict[str, Any] = load(BASE / "worker.yaml")["spec"]
    return spec


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


def base_settings() -> dict[str, str]:
    generated = load(BASE / "kustomization.yaml")["configMapGenerator"][0]["literals"]
    return dict(literal.split("=", 1) for literal in generated)


def test_the_image_runs_the_versions_that_the_tests_run() -> None:
    tested = pins("requirements-dev.txt")
    for name in ("requirements.txt", "requirements-build.txt"):
        assert pins(name).items() <= tested.items(), f"{name} is stale: make requirements"


def test_every_distribution_of_the_image_is_pinned_by_hash() -> None:
    text = (ROOT / "requirements.txt").read_text()
    entries = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)


def test_the_image_names_no_registry_and_runs_as_a_number() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert bases
    assert not any("." in base.split("/")[0] and "/" in base for base in bases)
    assert re.search(r"^USER [1-9][0-9]*:[1-9][0-9]*$", dockerfile, re.MULTILINE)
    assert 'ENTRYPOINT ["fairlane"]' in dockerfile


def test_the_image_copies_every_package_and_the_context_has_nothing_else() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for package in ("app", "topics", "producer", "consumer", "monitor"):
        assert f"COPY {package}/ {package}/" in dockerfile
        assert f"!{package}/" in ignored
    assert "*" in ignored


def test_compose_publishes_on_loopback_only(compose: dict[str, Any]) -> None:
    published = [port for service in compose.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_compose_pins_its_images(compose: dict[str, Any]) -> None:
    for name, service in compose.items():
        tag = service["image"].rpartition(":")[2]
        assert tag not in ("", "latest"), f"{name} runs {service['image']}"


def test_the_compose_worker_can_be_scaled(compose: dict[str, Any]) -> None:
    assert not {"container_name", "ports", "hostname"} & compose["worker"].keys()
    assert compose["worker"]["deploy"]["replicas"] == 2


def test_compose_starts_workers_after_the_topics(compose: dict[str, Any]) -> None:
    assert compose["topics"]["depends_on"]["kafka"] == {"condition": "service_healthy"}
    for name in ("worker", "producer"):
        assert compose[name]["depends_on"]["topics"] == {"condition": "service_completed_successfully"}


def test_compose_mounts_files_that_there_are(compose: dict[str, Any]) -> None:
    mounted = [volume.split(":") for service in compose.values() for volume in service.get("volumes", [])]
    assert all((ROOT / source).exists() for source, *_ in mounted if source.startswith("."))
    into = {target: source for source, target, *_ in mounted}
    provider = load(ROOT / "deploy/grafana/provisioning/dashboards/fairlane.yml")["providers"][0]
    assert provider["options"]["path"] == str(Path(compose["grafana"]["environment"][HOME]).parent)
    assert into[compose["grafana"]["environment"][HOME]] == "./deploy/grafana/fairlane.json"
    assert into["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"
    rules = load(ROOT / "deploy/prometheus/prometheus.yml")["rule_files"]
    assert into["/etc/prometheus/alerts.yml"] == f"./deploy/prometheus/{rules[0]}"


def test_prometheus_asks_where_worker_and_monitor_answer(compose: dict[str, Any]) -> None:
    jobs = {job["job_name"]: job for job in load(ROOT / "deploy/prometheus/prometheus.yml")["scrape_configs"]}
    (workers,) = jobs["fairlane-worker"]["dns_sd_configs"]
    assert (workers["names"], workers["port"]) == (["worker"], compose["worker"]["environment"]["FAIRLANE_HEALTH_PORT"])
    assert compose["worker"]["environment"]["FAIRLANE_HEALTH_HOST"] == "0.0.0.0"
    assert jobs["fairlane-monitor"]["static_configs"] == [{"targets": ["monitor:8090"]}]
    (token,) = compose["prometheus"]["configs"]
    assert jobs["fairlane-monitor"]["authorization"]["credentials_file"] == token["target"]
    secret = load(ROOT / "docker-compose.yml")["configs"][token["source"]]["content"]
    tokens = Tokens(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", compose["monitor"]["environment"]["FAIRLANE_MONITOR_TOKENS"]))
    assert tokens.caller(f"Bearer {secret}") == Caller("prometheus", "viewer")


def test_what_compose_shows_leads_to_each_other(compose: dict[str, Any]) -> None:
    def by_default(text: str) -> str:
        return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)

    at = {
        name: by_default(service["ports"][0]).rpartition(":")[0]
        for name, service in compose.items()
        if "ports" in service
    }
    told = {name: by_default(str(value)) for name, value in compose["monitor"]["environment"].items()}
    assert told["FAIRLANE_MONITOR_TRACE_URL"] == f"http://{at['jaeger']}/trace/{{trace_id}}"
    assert told["FAIRLANE_MONITOR_PROMETHEUS_URL"] == f"http://{at['prometheus']}"
    # Only where Grafana is to run, which this variable says.
    assert told["FAIRLANE_MONITOR_GRAFANA_URL"] == f"${{COMPOSE_PROFILES:+http://{at['grafana']}}}"
    assert by_default(compose["prometheus"]["environment"]["DASHBOARD_URL"]) == f"http://{at['monitor']}"
    assert (
        load(ROOT / "deploy/prometheus/prometheus.yml")["global"]["external_labels"]["dashboard"] == "${DASHBOARD_URL}"
    )
    (mounted,) = compose["jaeger"]["configs"]
    assert compose["jaeger"]["command"] == ["--set", f"extensions.jaeger_query.ui.config_file={mounted['target']}"]
    jaeger = json.loads(by_default(load(ROOT / "docker-compose.yml")["configs"][mounted["source"]]["content"]))
    (pattern,) = jaeger["linkPatterns"]
    assert pattern["key"] in (ROOT / "docs/tracing.md").read_text()
    assert pattern["url"] == f"http://{at['monitor']}/ui/task?id=#{{{pattern['key']}}}"
    assert [item["url"] for item in jaeger["menu"]] == [f"http://{at['monitor']}/ui/", f"http://{at['prometheus']}"]


def test_the_data_sources_of_grafana_are_services(compose: dict[str, Any]) -> None:
    sources = load(ROOT / "deploy/grafana/provisioning/datasources/fairlane.yml")["datasources"]
    assert {source["url"].split("/")[2].partition(":")[0] for source in sources} <= compose.keys()
    leads = sources[0]["jsonData"]["exemplarTraceIdDestinations"][0]
    assert leads == {"name": "trace_id", "datasourceUid": sources[1]["uid"]}


def test_what_compose_sets_are_settings(compose: dict[str, Any]) -> None:
    names = {name for service in compose.values() for name in service.get("environment", {})}
    ours = {name.removeprefix("FAIRLANE_").lower() for name in names if name.startswith("FAIRLANE_")}
    assert ours <= Settings.model_fields.keys()


def test_nobody_kills_a_worker_that_is_still_draining(compose: dict[str, Any], worker: dict[str, Any]) -> None:
    service = compose["worker"]
    assert seconds(service["stop_grace_period"]) > service["environment"]["FAIRLANE_GRACE_S"]
    assert worker["template"]["spec"]["terminationGracePeriodSeconds"] > int(base_settings()["FAIRLANE_GRACE_S"])


def test_a_workers_health_is_asked_where_it_answers(compose: dict[str, Any], worker: dict[str, Any]) -> None:
    assert compose["worker"]["healthcheck"]["test"] == ["CMD", "fairlane", "health"]
    assert compose["worker"]["environment"]["FAIRLANE_HEALTH_PORT"]
    (container,) = worker["template"]["spec"]["containers"]
    told = {entry["name"]: entry["value"] for entry in container["env"]}
    (port,) = container["ports"]
    assert told == {"FAIRLANE_HEALTH_PORT": str(port["containerPort"]), "FAIRLANE_HEALTH_HOST": "0.0.0.0"}
    for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
    scraped = worker["template"]["metadata"]["annotations"]
    assert scraped["prometheus.io/port"] == str(port["containerPort"])
    assert scraped["prometheus.io/path"] == "/metrics"


def test_a_killed_worker_is_noticed_soon_under_compose(compose: dict[str, Any]) -> None:
    kafka = compose["kafka"]["environment"]
    assert kafka["KAFKA_GROUP_CONSUMER_SESSION_TIMEOUT_MS"] <= 6_000
    assert kafka["KAFKA_TRANSACTION_ABORT_TIMED_OUT_TRANSACTION_CLEANUP_INTERVAL_MS"] <= 1_000
    assert kafka["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_manifest_is_one_object_that_says_what_it_is(path: Path) -> None:
    manifest = load(path)
    assert manifest["apiVersion"]
    assert manifest["kind"]
    if path.name == "kustomization.yaml":
        named = [*manifest.get("resources", []), *manifest.get("components", [])]
        assert all((path.parent / name).exists() for name in named)
    else:
        assert path.name in load(path.parent / "kustomization.yaml")["resources"]


@pytest.mark.parametrize("name", ["worker.yaml", "topics-job.yaml"])
def test_a_pod_has_the_least_rights(name: str) -> None:
    pod = load(BASE / name)["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


def test_the_pods_run_as_the_user_of_the_image(worker: dict[str, Any]) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user is not None
    security = worker["template"]["spec"]["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"]) == (int(user[1]), int(user[2]))


def test_the_autoscaler_adds_up_every_lane_of_the_queue() -> None:
    spec = load(ROOT / "deploy/k8s/components/keda/scaledobject.yaml")["spec"]
    names = QueueNames(base_settings()["FAIRLANE_QUEUE_URL"].rpartition("/")[2])
    triggers = spec["triggers"]
    assert [trigger["metadata"]["topic"] for trigger in triggers] == [names.lane(level) for level in LEVELS]
    assert {trigger["metadata"]["consumerGroup"] for trigger in triggers} == {names.group}
    modifiers = spec["advanced"]["scalingModifiers"]
    assert modifiers["formula"].split(" + ") == [trigger["name"] for trigger in triggers]
    assert {trigger["metadata"]["lagThreshold"] for trigger in triggers} == {modifiers["target"]}


def test_the_autoscaler_stays_within_the_partitions_and_never_stops_all() -> None:
    spec = load(ROOT / "deploy/k8s/components/keda/scaledobject.yaml")["spec"]
    assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"] <= DEFAULT_PARTITIONS
