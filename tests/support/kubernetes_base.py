"""Writes the base for kustomize from the Helm chart, so that there is one description of styx in Kubernetes; and
the alerts of the chart from those in `config/`.

    python -m tests.support.kubernetes_base

The configuration is a file of its own in the base, from which kustomize makes the ConfigMap: overlays replace it,
and a change of it replaces the pods. Needs the extra `release`.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "styx"
KUSTOMIZE = ROOT / "deploy" / "kubernetes"
CORE_API = "http://core-api:9900"
MADE = "# Made from deploy/helm/styx by `python -m tests.support.kubernetes_base`.\n"
ALERTS = ROOT / "config" / "prometheus" / "styx_alerts.yaml"
ALERTS_MADE = "# Made from config/prometheus/styx_alerts.yaml by `python -m tests.support.kubernetes_base`.\n"
MONITORING = ("ServiceMonitor", "PrometheusRule")


def rendered_chart(values: Mapping[str, Any], name: str = "styx") -> list[dict[str, Any]]:
    """The objects of the chart with these values. Raises an exception of helm_python when they are not good."""
    texts = _rendered(json.dumps({"coreApi": {"url": CORE_API}, **values}), name)
    return [
        document for text in texts for document in yaml.load_all(text, yaml.CSafeLoader) if document is not None
    ]


@cache
def _rendered(values: str, name: str) -> list[str]:
    from helm_python import Chart

    with Chart.load(CHART) as chart:
        files = chart.render(values=json.loads(values), name=name, namespace="styx")
    return [text for path, text in sorted(files.items()) if path.endswith(".yaml")]


def base_files() -> dict[str, str]:
    """The files of the base and of its component for monitoring that are made, by their paths below KUSTOMIZE."""
    objects = rendered_chart({"monitoring": {"enabled": True}})
    [config] = [each["data"]["styx.yaml"] for each in objects if each["kind"] == "ConfigMap"]
    plain, monitoring = [], []
    for each in objects:
        if each["kind"] == "Deployment":
            del each["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
            del each["spec"]["template"]["metadata"]["annotations"]
        if each["kind"] != "ConfigMap":
            (monitoring if each["kind"] in MONITORING else plain).append(each)
    return {
        "base/styx.yaml": MADE + config.rstrip("\n") + "\n",
        "base/objects.yaml": MADE + yaml.safe_dump_all(plain, sort_keys=False, width=110),
        "monitoring/objects.yaml": MADE + yaml.safe_dump_all(monitoring, sort_keys=False, width=110),
    }


def chart_alerts() -> str:
    """The alerts of the chart: a chart cannot read files outside of it."""
    return ALERTS_MADE + ALERTS.read_text().partition("\n\n")[2]


if __name__ == "__main__":
    (CHART / "alerts.yaml").write_text(chart_alerts())
    for name, text in base_files().items():
        (KUSTOMIZE / name).write_text(text)
