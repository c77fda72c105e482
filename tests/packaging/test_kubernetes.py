"""The files for Kubernetes, rendered by Helm and kustomize: valid by its schemas, and good for styx."""

import importlib.util
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.admin.metrics_table import METRICS
from edge.rules.settings.file import parse
from tests.support.kubernetes_base import CHART, KUSTOMIZE, MONITORING, base_files, chart_alerts, rendered_chart

MODULES = ("helm_python", "kubernetes_validate", "promql_parser")
KUBECTL = shutil.which("kubectl", path=str(Path(sys.executable).parent))
OLDEST, NEWEST = "1.27", "1.37"
"Versions of Kubernetes whose schemas are used."

pytestmark = pytest.mark.skipif(
    KUBECTL is None or any(importlib.util.find_spec(name) is None for name in MODULES),
    reason="needs the extra: pip install -e '.[release]'",
)

VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": {
        "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
        "tls": {"enabled": True, "secrets": ["shop", "www"]},
        "coreApi": {"url": "https://core-api:9900", "tokenSecret": "core-api", "tlsSecret": "edge"},
        "image": {"digest": "sha256:" + "a" * 64},
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"edge": "yes"},
        "tolerations": [{"key": "edge", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "podAnnotations": {"a": "b"},
        "service": {"annotations": {"x": "y"}},
    },
    "certificates of the core API": {
        "tls": {"enabled": True},
        "coreApi": {"url": "https://core-api:9900", "tlsSecret": "edge"},
    },
    "little": {
        "autoscaling": {"enabled": False},
        "replicas": 1,
        "networkPolicy": {"enabled": False},
        "service": {"type": "ClusterIP"},
        "config": {"limits": {"connections": 5000}, "drain": {"delay": "1s"}},
    },
}


@cache
def kustomized_text(name: str) -> str:
    command = [str(KUBECTL), "kustomize", str(KUSTOMIZE / name)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def kustomized(name: str) -> list[dict[str, Any]]:
    return list(yaml.load_all(kustomized_text(name), yaml.CSafeLoader))


def objects(source: str) -> list[dict[str, Any]]:
    return kustomized(source) if source in ("base", "example") else rendered_chart(VALUES[source])


def one(found: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    [each] = [each for each in found if each["kind"] == kind and each["metadata"]["name"].startswith(name)]
    return each


SOURCES = ("base", "example", *VALUES)


@pytest.mark.parametrize(
    ("source", "version"), [("example", NEWEST), ("everything", OLDEST), ("everything", NEWEST), ("little", NEWEST)]
)
def test_they_are_valid_for_kubernetes(source: str, version: str) -> None:
    import kubernetes_validate

    for each in objects(source):
        if each["kind"] not in MONITORING:
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("source", SOURCES)
def test_their_configuration_is_good_for_styx(source: str) -> None:
    found = objects(source)
    text = one(found, "ConfigMap")["data"]["styx.yaml"]
    settings = parse(text, name="styx.yaml", environ={"POD_NAME": "styx-1"})
    pod = one(found, "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    ports = {port["containerPort"] for port in container["ports"]}
    assert ports == {listener.address.port for listener in settings.listeners} | {settings.admin.address.port}
    assert settings.drain.delay + settings.drain.timeout < pod["terminationGracePeriodSeconds"]
    assert settings.edge_name == "styx-1"
    assert settings.workers <= int(container["resources"]["requests"]["cpu"])
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for file in (settings.admin.token_file, settings.core_api.token_file):
        assert file is None or any(file.startswith(f"{mount}/") for mount in mounts), file


@pytest.mark.parametrize("source", SOURCES)
def test_what_belongs_together_does(source: str) -> None:
    found = objects(source)
    deployment = one(found, "Deployment")
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"].items()
    selectors = [each["spec"]["selector"] for each in found if each["kind"] == "Service"]
    selectors += [
        each["spec"][key]["matchLabels"]
        for each in found
        for key in ("selector", "podSelector")
        if each["kind"] in ("Deployment", "PodDisruptionBudget", "NetworkPolicy") and key in each["spec"]
    ]
    assert len(selectors) >= 4
    assert all(selector.items() <= labels for selector in selectors)
    names = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    for service in (each for each in found if each["kind"] == "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    volume = next(volume for volume in pod["spec"]["volumes"] if volume["name"] == "config")
    assert volume["configMap"]["name"] == one(found, "ConfigMap")["metadata"]["name"]
    if scaler := [each for each in found if each["kind"] == "HorizontalPodAutoscaler"]:
        assert "replicas" not in deployment["spec"], "the two would fight"
        assert scaler[0]["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


@pytest.mark.parametrize("source", SOURCES)
def test_the_pod_has_no_rights(source: str) -> None:
    """As the restricted pod security standard of Kubernetes asks for."""
    pod = one(objects(source), "Deployment")["spec"]["template"]["spec"]
    security = pod["containers"][0]["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    user = re.findall(r"^USER (\d+)", (CHART.parents[2] / "Dockerfile").read_text(), re.MULTILINE)
    assert [str(pod["securityContext"]["runAsUser"])] == user
    assert not pod["automountServiceAccountToken"]


def test_the_base_is_made_from_the_chart() -> None:
    for name, text in base_files().items():
        assert (KUSTOMIZE / name).read_text() == text, "make it anew: python -m tests.support.kubernetes_base"


def test_the_example_replaces_what_it_says() -> None:
    found = kustomized("example")
    assert {each["metadata"]["namespace"] for each in found if each["kind"] != "Namespace"} == {"styx"}
    assert (
        one(found, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
        == "registry.example/styx:0.1.0"
    )
    assert {each["kind"] for each in found} >= set(MONITORING)


@pytest.mark.parametrize(
    "values",
    [
        {"coreApi": {"url": ""}},
        {"coreApi": {"url": "core-api:9900"}},
        {"workers": "auto"},
        {"drain": {"delay": 30, "timeout": 30}},
        {"admin": {"tokenSecret": ""}},
        {"tls": {"enabled": True}},
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any]) -> None:
    from helm_python import HelmError

    with pytest.raises(HelmError, match=r"GracePeriodSeconds|/coreApi/url|/workers|/tokenSecret|tls.secrets"):
        rendered_chart(values)


def test_helm_finds_nothing_wrong_with_the_chart() -> None:
    from helm_python import lint

    assert lint(CHART, {"coreApi": {"url": "http://core-api:9900"}}, strict=True)["errors"] == []


def test_names_of_a_release() -> None:
    assert one(rendered_chart({}, name="live"), "Deployment")["metadata"]["name"] == "live-styx"
    assert one(rendered_chart({}, name="styx-live"), "Deployment")["metadata"]["name"] == "styx-live"


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((CHART / "alerts.yaml").read_text())["groups"]
    return list(group["rules"])


def test_the_alerts_of_the_chart_are_those_of_the_configuration() -> None:
    assert (CHART / "alerts.yaml").read_text() == chart_alerts(), "python -m tests.support.kubernetes_base"


def test_alerts_are_queries_of_metrics_that_exist() -> None:
    import promql_parser

    names = {metric.name for metric in METRICS}
    assert len(rules()) > 10
    for rule in rules():
        promql_parser.parse(rule["expr"])
        used = set(re.findall(r"styx_\w+", rule["expr"]))
        assert used or rule["expr"].startswith("up{")
        for name in used:
            assert {name, name.removesuffix("_bucket"), name.removesuffix("_total")} & names, name
        assert "summary" in rule["annotations"]
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_a_rule_of_prometheus_has_the_alerts() -> None:
    rule = one(rendered_chart(VALUES["everything"]), "PrometheusRule")
    assert rule["spec"]["groups"][0]["rules"] == rules()
    monitor = one(rendered_chart(VALUES["everything"]), "ServiceMonitor")
    [endpoint] = monitor["spec"]["endpoints"]
    service = one(rendered_chart(VALUES["everything"]), "Service", "styx-admin")
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert endpoint["authorization"]["credentials"] == {"name": "styx-admin", "key": "token"}
