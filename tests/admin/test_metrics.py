import time
import timeit
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import generate_latest, parser
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.openmetrics import parser as openmetrics_parser

from edge.admin.metric_sources import (
    BOUNDS_MS,
    LISTENERS,
    Across,
    Metric,
    MetricType,
    NamedGroup,
    Published,
    Recorded,
    WorkerNumber,
)
from edge.admin.metrics.named_slots import ListenerNumbers, connections_on, identity, take_slots
from edge.admin.metrics.process_usage import ProcessUsage, read_usage
from edge.admin.metrics_collector import new_registry
from edge.admin.metrics_reference import render
from edge.admin.metrics_table import METRICS, worker_status
from edge.admin.request_counters import RequestCounters
from edge.admin.scoreboard import LAYOUT, Layout, Scoreboard
from edge.rules.exchange_records import Attempted
from edge.rules.outcomes import Blame, Cause, Phase
from edge.rules.pages.template_files import PagesState
from edge.rules.route_sets.route_file_guard import RouteFileState
from edge.rules.routing.invalidation import StreamState
from edge.rules.traffic.listener_counts import ListenerCounts

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


class Scrape:
    """One scrape, read by the parser of prometheus_client."""

    def __init__(self, registry):
        text = generate_latest(registry).decode()
        self.families = list(parser.text_string_to_metric_families(text))
        self.values = {(s.name, *sorted(s.labels.items())): s.value for f in self.families for s in f.samples}

    def __call__(self, name, **labels):
        return self.values[(name, *sorted(labels.items()))]


@pytest.fixture
def board(snapshot):
    """The scoreboard of a master and a worker that has published its snapshot."""
    board = Scoreboard(8)
    board.row(1).begin(0, 11, 1.0)
    board.row(1).publish(snapshot)
    return board


@pytest.fixture
def request_counters(board):
    return RequestCounters(board.row(1))


@pytest.fixture
def registry(board):
    return new_registry(board, listeners=["127.0.0.1:8080", "unix:/run/styx.sock"])


def attempt(result):
    return Attempted(backend="b1", result=result, status=0, connect_ms=0.0, first_byte_ms=0.0)


def test_recorded_outcomes_are_counted(request_counters, registry, outcome):
    request_counters.record(outcome(bytes_in=3, bytes_out=4))
    request_counters.record(
        outcome(
            status=503,
            blame=Blame.BACKEND,
            phase=Phase.CONNECT,
            cause=Cause.CONNECT_FAILED,
            attempts=[attempt(Cause.REFUSED), attempt(Cause.CONNECT_FAILED)],
        )
    )
    scrape = Scrape(registry)
    assert scrape("styx_requests_total", blame="nobody", phase="finished") == 1
    assert scrape("styx_requests_total", blame="backend", phase="connect") == 1
    assert scrape("styx_responses_total", code="503") == 1
    assert scrape("styx_causes_total", cause="connect_failed") == 1
    assert scrape("styx_attempts_total", result="refused") == 1
    assert scrape("styx_attempts_total", result="ok") == 1
    assert scrape("styx_retries_total", cause="refused") == 1
    assert scrape("styx_retries_total", cause="connect_failed") == 0
    assert scrape("styx_request_body_bytes_total") == 3
    assert scrape("styx_response_body_bytes_total") == 5124


def test_requests_that_differ_only_in_status_are_one_series_of_blame_and_phase(request_counters, registry, outcome):
    for status in (200, 204, 404):
        request_counters.record(outcome(status=status))
    scrape = Scrape(registry)
    assert scrape("styx_requests_total", blame="nobody", phase="finished") == 3
    assert scrape("styx_responses_total", code="204") == 1


def test_unknown_statuses_count_by_their_class(request_counters, registry, outcome):
    for status in range(520, 530):
        request_counters.record(outcome(status=status))
    assert Scrape(registry)("styx_responses_total", code="5xx") == 10


def test_histograms_are_cumulative_and_in_seconds(request_counters, registry, outcome):
    for ms in (0.4, 7.0, 7.0, 90_000.0):
        request_counters.record(outcome(total_ms=ms))
    scrape = Scrape(registry)
    assert scrape("styx_request_seconds_bucket", le="0.0005") == 1
    assert scrape("styx_request_seconds_bucket", le="0.01") == 3
    assert scrape("styx_request_seconds_bucket", le="60.0") == 3
    assert scrape("styx_request_seconds_bucket", le="+Inf") == 4
    assert scrape("styx_request_seconds_count") == 4
    assert scrape("styx_request_seconds_sum") == pytest.approx(90.0144)
    edges = [key[1][1] for key in scrape.values if key[0] == "styx_request_seconds_bucket"]
    assert [float(le) * 1_000 for le in edges[:-1]] == list(BOUNDS_MS)


def test_counters_only_grow(request_counters, registry, outcome):
    request_counters.record(outcome())
    request_counters.record_lookup("route", 0.01)
    before = Scrape(registry)
    for status in (200, 500):
        request_counters.record(
            outcome(status=status, attempts=[attempt(Cause.STALE_CONNECTION), attempt(Cause.OK)])
        )
    request_counters.record_lookup("error", 0.01)
    after = Scrape(registry)
    growing = [f.name for f in before.families if f.type in ("counter", "histogram")]
    styx = [k for k in before.values if k[0].startswith("styx_") and k[0].startswith(tuple(growing))]
    assert styx
    assert all(after.values[key] >= before.values[key] for key in styx)


def test_the_snapshot_of_the_worker(registry, snapshot):
    scrape = Scrape(registry)
    expected = {
        "styx_client_connections_accepted_total": snapshot["client_connections_accepted"],
        "styx_client_connections_refused_total": snapshot["client_connections_refused"],
        "styx_idle_clients_closed_total": snapshot["idle_clients_closed"],
        "styx_buffer_limit_cuts_total": snapshot["buffers_cut"],
        "styx_backend_connections_opened_total": snapshot["links_opened"],
        "styx_backend_connections_reused_total": snapshot["links_reused"],
        "styx_routes": snapshot["routes"],
        "styx_routes_ready": snapshot["routes_ready"],
        "styx_unknown_hosts": snapshot["unknown_hosts"],
        "styx_environments": snapshot["environments"],
        "styx_retries_exhausted_total": snapshot["retries_exhausted"],
        "styx_backends_down": snapshot["backends_down"],
        "styx_probes_total": snapshot["probes"],
        "styx_reconnects_total": snapshot["reconnects"],
        "styx_core_api_up": 1,
        "styx_log_lines_total": snapshot["log_lines"],
        "styx_log_lines_dropped_total": snapshot["log_lines_dropped"],
    }
    assert {name: scrape(name) for name in expected} == expected
    assert scrape("styx_client_connections", worker="0") == snapshot["client_connections"]
    assert scrape("styx_requests_in_flight", worker="0") == snapshot["exchanges"]
    assert scrape("styx_buffered_bytes", worker="0") == snapshot["buffered_bytes"]
    assert scrape("styx_core_api_lookups_in_flight", worker="0") == snapshot["lookups_under_way"]
    assert scrape("styx_backend_connections", state="idle") == snapshot["links_idle"]
    assert scrape("styx_backend_connections", state="busy") == snapshot["links_busy"]
    lookups = [scrape("styx_route_lookups_total", result=r) for r in ("hit", "stale", "miss", "unknown")]
    assert lookups == [snapshot[key] for key in ("route_hits", "route_stale", "route_misses", "unknown_hits")]


def test_the_core_api_by_result(request_counters, registry):
    request_counters.record_lookup("not_modified", 0.25)
    scrape = Scrape(registry)
    assert scrape("styx_core_api_seconds_count", result="not_modified") == 1
    assert scrape("styx_core_api_seconds_sum", result="not_modified") == 0.25
    assert scrape("styx_core_api_seconds_count", result="timeout") == 0


def test_a_core_api_that_is_down_for_one_worker(board, registry, snapshot):
    board.row(2).begin(1, 12, 1.0)
    board.row(2).publish({**snapshot, "core_api_up": False})
    assert Scrape(registry)("styx_core_api_up") == 0
    board.row(2).ended()
    assert Scrape(registry)("styx_core_api_up") == 1


def test_several_workers(board, registry, request_counters, snapshot, outcome):
    """Counts are added up, and stay when one ends; requests in flight are reported by slot."""
    other = board.row(2)
    other.begin(1, 12, 1.0)
    other.publish({**snapshot, "exchanges": 40, "routes": 100})
    other.beat(2.0, 0.02)
    request_counters.record(outcome())
    RequestCounters(other).record(outcome())
    scrape = Scrape(registry)
    assert scrape("styx_causes_total", cause="ok") == 2
    assert scrape("styx_requests_in_flight", worker="0") == snapshot["exchanges"]
    assert scrape("styx_core_api_lookups_in_flight", worker="0") == snapshot["lookups_under_way"]
    assert scrape("styx_requests_in_flight", worker="1") == 40
    assert scrape("styx_routes") == 100
    assert scrape("styx_backend_connections_opened_total") == 2 * snapshot["links_opened"]
    assert scrape("styx_loop_lag_last_seconds", worker="1") == 0.02
    assert scrape("styx_loop_lag_seconds_count") == 1
    assert (scrape("styx_worker_up", worker="0"), scrape("styx_worker_up", worker="1")) == (1, 1)
    other.ended()
    scrape = Scrape(registry)
    assert scrape("styx_causes_total", cause="ok") == 2
    assert scrape("styx_log_lines_total") == 2 * snapshot["log_lines"]
    assert ("styx_worker_up", ("worker", "1")) not in scrape.values


def test_events_recorded_by_the_master(board, registry):
    assert Scrape(registry)("styx_last_reload_success") == 1
    assert Scrape(registry)("styx_worker_restarts_total", reason="crashed") == 0
    board.row(0).reloaded(False, 5.0)
    board.row(0).restarted("crashed")
    scrape = Scrape(registry)
    assert scrape("styx_last_reload_success") == 0
    assert scrape("styx_reloads_total", result="failed") == 1
    assert scrape("styx_worker_restarts_total", reason="crashed") == 1


def test_accept_queues_are_reported_by_worker_and_listener(board, registry):
    board.row(1).publish_queue(1, 7)
    board.row(2).begin(0, 12, 1.0)  # it takes over the slot of the first one, and accepts from the same sockets
    board.row(2).publish_queue(1, 6)
    board.row(3).begin(1, 13, 1.0)
    board.row(3).publish_queue(0, 2)
    board.row(3).publish_queue(LISTENERS, 9)
    scrape = Scrape(registry)
    values = [
        scrape("styx_accept_queue", worker=worker, listener=listener)
        for worker in ("0", "1")
        for listener in ("127.0.0.1:8080", "unix:/run/styx.sock")
    ]
    assert values == [0, 7, 2, 0]


def test_a_scrape_is_quick(board, registry, request_counters, outcome):
    """3 ms with every metric and label value; 50 ms are allowed."""
    for code in range(100, 600):
        request_counters.record(outcome(status=code))
    for cause in Cause:
        for phase in Phase:
            request_counters.record(outcome(cause=cause, phase=phase, attempts=[attempt(cause)] * 2))
    best = min(timeit.repeat(lambda: generate_latest(registry), number=1, repeat=5, timer=time.thread_time))
    assert best < 0.05


def test_every_metric_of_the_table_is_there_with_its_help_text_and_samples(board, request_counters, outcome):
    request_counters.record(outcome())
    stream, file = StreamState(), RouteFileState()
    stream.last_message_at = 1.0
    file.reset(is_read=True)
    pages = PagesState()
    pages.reset(is_used=True)
    board.row(1).publish_usage(read_usage())
    scrape = Scrape(new_registry(board, stream, file, pages, listeners=["127.0.0.1:8080"], sites=["acme"]))
    found = {family.name: family for family in scrape.families}
    for metric in METRICS:
        family = found[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.type, metric.help)
        own = [{*sample.labels} - {"le"} for sample in family.samples]
        assert own, metric.name
        assert own == [{*metric.labels}] * len(own), metric.name
    assert {n for n in found if n.startswith("styx_")} == {m.name.removesuffix("_total") for m in METRICS}
    assert "process_open_fds" in found


def test_all_series_are_there_from_the_start(registry, request_counters, outcome):
    """A rate needs the zero before the first event."""
    before = Scrape(registry)
    assert before("styx_requests_total", blame="backend", phase="connect") == 0
    assert before("styx_responses_total", code="502") == 0
    assert before("styx_attempts_total", result="client_gone") == 0
    for cause in Cause:
        for status in (200, 404, 502, 799):
            request_counters.record(outcome(cause=cause, status=status, attempts=[attempt(cause)] * 2))
    assert Scrape(registry).values.keys() == before.values.keys()


def test_every_process_has_its_own_numbers(board):
    """The master has row 0, the admin process serves nobody; two processes of one slot are added up."""
    usage = ProcessUsage(2.5, 4096.0, 12, 1024)
    board.row(2).begin(0, 12, 1.0, serves=False)
    board.row(3).begin(0, 13, 1.0)
    for number in range(4):
        board.row(number).publish_usage(usage)
    scrape = Scrape(new_registry(board))
    labels = [("master", ""), ("admin", ""), ("worker", "0")]
    found = [scrape("styx_process_cpu_seconds_total", process=p, worker=w) for p, w in labels]
    assert found == [2.5, 2.5, 5.0]
    assert scrape("styx_process_resident_memory_bytes", process="worker", worker="0") == 8192
    assert scrape("styx_process_open_fds", process="admin", worker="") == 12
    assert scrape("styx_process_max_fds", process="master", worker="") == 1024
    board.row(2).ended()
    left = Scrape(new_registry(board)).values
    assert ("styx_process_open_fds", ("process", "admin"), ("worker", "")) not in left


def test_listeners_and_named_sites(board, registry):
    names = ["127.0.0.1:8080", "unix:/run/styx.sock"]
    numbers, counts = ListenerNumbers(board.row(1), names), [ListenerCounts(name) for name in names]
    counts[1].accepted, counts[1].requests, counts[1].connections = 3, 30, 2
    numbers.publish(counts)
    numbers.publish(counts)
    take_slots(board.row(1), NamedGroup.SITE, ["acme"])
    RequestCounters(board.row(1)).count_site(0, 503, 7.0)
    scrape = Scrape(new_registry(board, listeners=names, sites=["acme", "new"]))
    accepted = [scrape("styx_listener_connections_accepted_total", listener=name) for name in names]
    assert accepted == [0, 3]
    assert [scrape("styx_listener_connections", listener=name) for name in names] == [0, 2]
    assert connections_on(board.row(1)) == {identity(names[0]): 0, identity(names[1]): 2}
    assert scrape("styx_listener_requests_total", listener=names[1]) == 30
    found = [scrape("styx_site_responses_total", site=site, **{"class": "5xx"}) for site in ("acme", "new")]
    assert found == [1, 0]
    assert scrape("styx_site_request_seconds_bucket", site="acme", le="0.01") == 1
    assert scrape("styx_site_request_seconds_sum", site="acme") == 0.007
    # The next process in the row has other settings, in another order.
    board.row(1).ended()
    scrape = Scrape(new_registry(board, listeners=names))
    assert [scrape("styx_listener_connections", listener=name) for name in names] == [0, 0]
    board.row(1).begin(0, 12, 2.0)
    ListenerNumbers(board.row(1), names).publish(counts)
    take_slots(board.row(1), NamedGroup.SITE, ["new", "acme"])
    scrape = Scrape(new_registry(board, listeners=names, sites=["new", "acme"]))
    assert scrape("styx_listener_requests_total", listener=names[1]) == 60, "counts of both"
    found = [scrape("styx_site_responses_total", site=site, **{"class": "5xx"}) for site in ("acme", "new")]
    assert found == [0, 0], "a count begins again, and is never another site's"
    assert scrape("styx_site_request_seconds_count", site="acme") == 0


def test_a_new_metric_is_one_row(outcome):
    """For each source: layout, status of a worker, scrape and page follow from the row."""
    table = (
        *METRICS,
        Metric(MetricType.COUNTER, "styx_planted_total", "Counted.", Recorded("kind", ("this", "that"))),
        Metric(MetricType.HISTOGRAM, "styx_planted_seconds", "Timed.", Recorded()),
        Metric(
            MetricType.GAUGE,
            "styx_planted",
            "Read.",
            Published((WorkerNumber("planted", lambda worker: worker.number),), across=Across.EACH),
        ),
    )
    status = worker_status(SimpleNamespace(number=5), table[-1:])
    assert status == {"planted": 5}
    board = Scoreboard(2, Layout(table))
    row = board.row(1)
    row.begin(3, 11, 1.0)
    row.publish({**dict.fromkeys((key for key, _ in board.layout.published_counters), 0.0), **ALL_GAUGES, **status})
    row.count("styx_planted_total", "that", by=2)
    RequestCounters(row).record(outcome())
    scrape = Scrape(new_registry(board))
    assert scrape("styx_planted", worker="3") == 5
    assert (scrape("styx_planted_total", kind="this"), scrape("styx_planted_total", kind="that")) == (0, 2)
    assert scrape("styx_planted_seconds_count") == 0
    assert scrape("styx_causes_total", cause="ok") == 1
    assert "| `styx_planted_total` | counter | `kind` (this, that) | Counted. |" in render(table)


ALL_GAUGES = dict.fromkeys((key for key, _ in LAYOUT.published_gauges), 0.0)


def test_the_page_in_docs_is_up_to_date():
    made = "python -m edge.admin.metrics_reference > docs/metrics.md"
    assert PAGE.read_text() == render(), f"make it again: {made}"


def test_the_stream_of_changes_and_the_file_of_routes(board):
    stream, file = StreamState(), RouteFileState()
    registry = new_registry(board, stream, file)
    before = Scrape(registry)
    assert before("styx_changes_up") == 0
    absent = {"styx_changes_silence_seconds", "styx_routes_file_up", "styx_routes_file_hostnames"}
    assert absent.isdisjoint(name for name, *_ in before.values)
    stream.connected, stream.last_message_at, stream.events, stream.gaps = True, 0.0, 7, 2
    file.reset(is_read=True)
    file.hostnames, file.held_back, file.good = 100, 60, False
    scrape = Scrape(registry)
    assert scrape("styx_changes_silence_seconds") > 0
    values = [scrape(f"styx_changes_{name}") for name in ("up", "total", "gaps_total")]
    assert values == [1, 7, 2]
    assert [scrape(f"styx_routes_file_{name}") for name in ("up", "hostnames", "held_back")] == [0, 100, 60]


def test_the_directory_of_error_pages(board):
    pages = PagesState()
    registry = new_registry(board, pages=pages)
    assert "styx_error_page_templates" not in {name for name, *_ in Scrape(registry).values}
    pages.reset(is_used=True)
    pages.templates, pages.faults = 7, 2
    scrape = Scrape(registry)
    assert [scrape(f"styx_error_page_{name}") for name in ("templates", "faults")] == [7, 2]
    pages.is_readable = False
    assert Scrape(registry)("styx_error_page_faults") == -1


def test_nothing_from_a_client_is_a_label(request_counters, registry, outcome):
    request_counters.record(
        outcome(host="evil.test", target="/evil", method="EVIL", site="evil", backend="evil", id="evil")
    )
    assert b"evil" not in generate_latest(registry)


def test_it_is_valid_openmetrics(request_counters, registry, outcome):
    request_counters.record(outcome())
    text = openmetrics_exposition.generate_latest(registry).decode()
    names = {family.name for family in openmetrics_parser.text_string_to_metric_families(text)}
    assert "styx_requests" in names


def test_a_scrape_of_chosen_names(registry):
    text = generate_latest(registry.restricted_registry(["styx_routes"])).decode()
    assert [f.name for f in parser.text_string_to_metric_families(text)] == ["styx_routes"]
