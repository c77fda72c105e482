"""The files for Prometheus and Grafana: what they ask for exists, and every alert is explained."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.admin.metrics_table import METRICS
from edge.rules.outcomes import Blame, Cause

ROOT = Path(__file__).parents[3]
ALERTS = ROOT / "config" / "prometheus" / "styx_alerts.yaml"
ALERTS_TEST = ROOT / "config" / "prometheus" / "styx_alerts_test.yaml"
DASHBOARD = ROOT / "config" / "grafana" / "styx.json"
PAGE = ROOT / "docs" / "alerts.md"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus"
)
METRIC = re.compile(r"\bstyx_[a-z0-9_]+(?=[{\[) ,]|$)")
LABEL = re.compile(r'\b(cause|blame|result|process|class)\s*(?:=|!=)\s*"([^"]*)"')
LABELLED = {
    "cause": {cause.value for cause in Cause},
    "blame": {blame.name.lower() for blame in Blame},
    "process": {"master", "admin", "worker"},
    "class": {"1xx", "2xx", "3xx", "4xx", "5xx"},
    "result": {"ok", "issued"},
}


def names() -> set[str]:
    found = set()
    for metric in METRICS:
        suffixes = ("_bucket", "_sum", "_count") if metric.type == "histogram" else ("",)
        found.update(metric.name + suffix for suffix in suffixes)
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def members(value: Any, name: str) -> Iterator[str]:
    """All texts under this name, however deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == name and isinstance(inner, str):
                yield inner
            yield from members(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from members(inner, name)


def queries() -> dict[str, str]:
    dashboard = json.loads(DASHBOARD.read_text())
    found = {f"dashboard {n}": query for n, query in enumerate(members(dashboard, "expr"))}
    found["instances"] = dashboard["templating"]["list"][1]["query"]["query"]
    return found | {rule["alert"]: rule["expr"] for rule in rules()}


@pytest.mark.parametrize("query", queries().values(), ids=queries().keys())
def test_every_query_asks_for_what_exists(query: str) -> None:
    asked = set(METRIC.findall(query))
    assert asked or query.startswith("up{"), query
    assert asked <= names()
    for label, value in LABEL.findall(query):
        assert value in LABELLED[label], f"{label}={value}"


NOT_SHOWN = {
    "styx_certificate_file_faults": "has an event",
    "styx_client_connections_accepted_total": "shown for each listener",
    "styx_error_page_templates": "no cause of an incident; their faults are shown",
    "styx_tls_contexts": "memory only",
    "styx_acme_proofs_served_total": "the orders that they are for are shown",
    "styx_control_connections_refused_total": "for the log: nobody but styx should know the channel",
}
"Metrics without a panel, each with the reason."


def test_the_dashboard_shows_every_metric_that_an_incident_needs() -> None:
    dashboard = [query for name, query in queries().items() if name.startswith("dashboard")]
    asked = {name for query in dashboard for name in METRIC.findall(query)}
    suffixes = {"histogram": ("_bucket", "_count", "_sum")}
    shown = {
        metric.name
        for metric in METRICS
        if any(metric.name + suffix in asked for suffix in suffixes.get(metric.type, ("",)))
    }
    assert {metric.name for metric in METRICS} - shown == set(NOT_SHOWN)


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert taken.isdisjoint(cells), panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_every_alert_is_explained_and_every_explanation_has_its_alert() -> None:
    sections = re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)
    assert sections == [rule["alert"] for rule in rules()]
    for text in PAGE.read_text().split("\n## ")[1:]:
        assert len(text.splitlines()) >= 3, f"says too little: {text}"


def test_every_alert_has_a_severity_and_a_summary() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        is_of_none = rule["expr"].startswith("absent(")
        assert is_of_none or "{{ $labels.instance }}" in rule["annotations"]["summary"]


def test_every_alert_is_tested() -> None:
    tests = yaml.safe_load(ALERTS_TEST.read_text())["tests"]
    fired = re.findall(r'alertname="(\w+)"', str(tests[1]["promql_expr_test"]))
    assert sorted(fired) == sorted(rule["alert"] for rule in rules())


def promtool(*arguments: str | Path) -> str:
    ran = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@needs_promtool
def test_alerts_fire_when_they_should() -> None:
    promtool("check", "rules", ALERTS)
    promtool("test", "rules", ALERTS_TEST)


@needs_promtool
def test_queries_of_the_dashboard_are_valid(tmp_path: Path) -> None:
    """As recording rules, because promtool checks no bare expressions."""
    expressions = [
        query.replace("$__rate_interval", "5m") for name, query in queries().items() if name.startswith("dashboard")
    ]
    group = {"name": "g", "rules": [{"record": f"q:{n}", "expr": expr} for n, expr in enumerate(expressions)]}
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [group]}))
    promtool("check", "rules", path)
