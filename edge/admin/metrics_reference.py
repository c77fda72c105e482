"""Generates docs/metrics.md, every metric with its type, labels and meaning, from the table in `metrics_table.py`.

    python -m edge.admin.metrics_reference > docs/metrics.md

A test compares the file with the output.
"""

from edge.admin.metric_sources import Metric, MetricType, Named, Published, Recorded
from edge.admin.metrics_table import METRICS

INTRODUCTION = """\
# Metrics

`GET /metrics` on the admin address, in the text format of Prometheus. All processes count in shared memory, so a
scrape waits for no worker, and no sum falls when a process ends. Every series is there from the start, with 0, so
that a rate sees its first event. Histograms count seconds.

A hostname is never a label. `worker` is the slot of a worker; values of `cause`, and of the `result` of an attempt,
are the causes of the access log. `styx_process_…` are of every process of the edge: the master, the admin process,
each worker; those without `styx_` are of the admin process, in the names that every exporter has. Sites have series
only if `metrics.sites` names them; `GET /v1/top` finds the busiest, most failing and slowest of all.

Rules for alerts are in [styx_alerts.yaml](../config/prometheus/styx_alerts.yaml), what to do about each in
[alerts.md](alerts.md), and a dashboard for Grafana in [styx.json](../config/grafana/styx.json).

Histograms are classic ones. Prometheus takes native histograms only in its protobuf format, which
`prometheus_client` does not write, and all processes here count in fixed buckets. From version 3 on it converts
them itself, at scrape, if its configuration says `convert_classic_histograms_to_nhcb: true`; then each is one
series with the same buckets.

Generated from `edge/admin/metrics_table.py` by `python -m edge.admin.metrics_reference > docs/metrics.md`.

| name | type | labels | meaning |
| --- | --- | --- | --- |
"""
MOST_VALUES = 6
"Label values are listed up to this number; a row with all causes or tasks would be too long."


def render(metrics: tuple[Metric, ...] = METRICS) -> str:
    """Render the whole page."""
    return INTRODUCTION + "".join(f"| {' | '.join(_columns(metric))} |\n" for metric in metrics)


def _columns(metric: Metric) -> tuple[str, ...]:
    kind = "histogram, seconds" if metric.type is MetricType.HISTOGRAM else metric.type.value
    return f"`{metric.name}`", kind, ", ".join(_label(metric, label) for label in metric.labels), metric.help


def _label(metric: Metric, label: str) -> str:
    values: tuple[str, ...] = ()
    match metric.source:
        case Recorded(label=own, values=known) if own == label:
            values = known
        case Named(label=own, values=known) if own == label:
            values = known
        case Published(numbers, label=own) if own == label:
            values = tuple(number.value for number in numbers)
    listed = ", ".join(values) if len(values) <= MOST_VALUES else ""
    return f"`{label}` ({listed})" if listed else f"`{label}`"


if __name__ == "__main__":
    print(render(), end="")
