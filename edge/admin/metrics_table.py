"""Declares every metric: a row of `METRICS` has its type, name and help text, and the source of its numbers.

The rest follows from the rows: the layout of the shared memory (`scoreboard.py`), the output of `/metrics`
(`metrics_collector.py`), the status of a worker in `GET /v1/overview`, and docs/metrics.md. To add a metric, add a
row; a `Recorded` one also needs the line that counts it, a `Published` one the attribute that it reads.

Label values are member names of `Phase` and `Blame` in lower case, values of `Cause`, HTTP statuses, worker slots,
and listeners and sites that the settings name: bounded by construction. A hostname is never a label: there may be
100,000, and the client chooses the one that it sends.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from edge.admin.metric_sources import (
    AcceptQueues,
    Across,
    BuildInfo,
    EdgeNumber,
    EdgeState,
    Metric,
    MetricType,
    Named,
    NamedGroup,
    Outcomes,
    ProcessNumber,
    Published,
    Recorded,
    Statuses,
    WorkerNumber,
)
from edge.rules.acme.explain_issuance import ORDER_RESULTS
from edge.rules.background_tasks import BackgroundTask
from edge.rules.certificates.certificate_checks import CertificateFault
from edge.rules.certificates.certificate_table import CertificateRejection
from edge.rules.h2.h2_frames import GoAwayReason
from edge.rules.outcomes import Cause
from edge.rules.pages.template_files import PagesState
from edge.rules.route_sets.route_file_guard import RouteFileState
from edge.rules.routing.route_table import Rejection
from edge.rules.tls.handshake_failures import CERTIFICATE_LOOKUPS, HANDSHAKE_FAILURES, NEVER

RESULTS: Final = ("success", "failed")


def _published(key: str, read: Callable[[Any], float], across: Across = Across.SUM) -> Published:
    return Published((WorkerNumber(key, read),), across=across)


def _not_accepted(why: Rejection) -> WorkerNumber:
    return WorkerNumber(why.value, lambda worker: worker.context.resolver.not_accepted[why], why.value)


def _goaway(why: GoAwayReason) -> WorkerNumber:
    return WorkerNumber(f"http2_goaways_{why.value}", lambda worker: worker.context.h2.goaways[why], why.value)


def _of_tls(read: Callable[[Any], float], otherwise: float = 0.0) -> Callable[[Any], float]:
    """Reads a number of the `TlsService` of a worker, if it has one."""
    return lambda worker: otherwise if worker.context.tls is None else read(worker.context.tls)


def _handshakes(version: str, *, resumed: bool) -> WorkerNumber:
    key = f"tls_handshakes_{version.replace('.', '')}_{'resumed' if resumed else 'full'}"
    read = _of_tls(lambda tls: tls.results[f"TLSv{version}", resumed])
    return WorkerNumber(key, read, f"{version},{str(resumed).lower()},ok")


def _failed_handshakes(reason: str) -> WorkerNumber:
    return WorkerNumber(f"tls_failed_{reason}", _of_tls(lambda tls: tls.failures[reason]), f",,{reason}")


def _certificate_lookups(result: str) -> WorkerNumber:
    read = _of_tls(lambda tls: tls.certificates.results[result])
    return WorkerNumber(f"certificate_lookups_{result}", read, result)


def _rejected_certificates(reason: str) -> WorkerNumber:
    read = _of_tls(lambda tls: tls.certificates.rejected.get(reason, 0))
    return WorkerNumber(f"certificates_rejected_{reason}", read, reason)


def _backend_handshakes(result: str, read: Callable[[Any], float]) -> WorkerNumber:
    """Reads a number of the `BackendTls` of a worker, if it has one."""

    def number(worker: Any) -> float:
        return 0.0 if worker.context.pool.tls is None else read(worker.context.pool.tls)

    return WorkerNumber(f"backend_tls_{result}", number, result)


def _age_of_change_stream(state: EdgeState) -> float | None:
    return state.now - state.changes.last_message_at if state.changes.last_message_at >= 0.0 else None


def _of_routes_file(read: Callable[[RouteFileState], float]) -> EdgeNumber:
    return EdgeNumber(lambda state: read(state.routes_file) if state.routes_file.is_read else None)


def _of_pages(read: Callable[[PagesState], float]) -> EdgeNumber:
    return EdgeNumber(lambda state: read(state.pages) if state.pages.is_used else None)


_COUNTER, _GAUGE, _HISTOGRAM = MetricType
_CAUSES = tuple(cause.value for cause in Cause)

METRICS: Final[tuple[Metric, ...]] = (
    # requests
    Metric(
        _COUNTER,
        "styx_requests_total",
        "Requests finished, by blame and by the phase in which they ended.",
        Outcomes(("blame", "phase")),
    ),
    Metric(_COUNTER, "styx_responses_total", "Requests finished, by the status of the response.", Statuses()),
    Metric(
        _COUNTER,
        "styx_causes_total",
        "Requests finished, by cause: `ok`, or the failure.",
        Outcomes(("cause",)),
    ),
    Metric(
        _GAUGE,
        "styx_requests_in_flight",
        "Requests in flight now.",
        _published("exchanges", lambda worker: worker.context.counts.exchanges, Across.EACH),
    ),
    Metric(_COUNTER, "styx_request_body_bytes_total", "Body bytes received from clients.", Recorded()),
    Metric(_COUNTER, "styx_response_body_bytes_total", "Body bytes sent to clients.", Recorded()),
    Metric(
        _HISTOGRAM, "styx_request_seconds", "From the head of the request to the end of the response.", Recorded()
    ),
    Metric(
        _HISTOGRAM,
        "styx_resolve_seconds",
        "Waiting for the core API; requests with a cached route are not in it.",
        Recorded(),
    ),
    Metric(
        _HISTOGRAM,
        "styx_connect_seconds",
        "Connecting to a backend; requests on an idle connection are not in it.",
        Recorded(),
    ),
    Metric(
        _HISTOGRAM,
        "styx_first_byte_seconds",
        "From the request sent to the first byte of the response; requests without a response are not in it.",
        Recorded(),
    ),
    Metric(
        _HISTOGRAM,
        "styx_overhead_seconds",
        "Time that styx itself added until the request was sent, without waiting for the core API or for a "
        "connection. Only requests without a body that were sent once.",
        Recorded(),
    ),
    # attempts
    Metric(
        _COUNTER,
        "styx_attempts_total",
        "Attempts at one backend, by result.",
        Recorded("result", _CAUSES),
    ),
    Metric(
        _COUNTER,
        "styx_retries_total",
        "Attempts after the first, by the cause of the failed one.",
        Recorded("cause", _CAUSES),
    ),
    # sites that `metrics.sites` names
    Metric(
        _COUNTER,
        "styx_site_responses_total",
        "Requests finished of the sites that `metrics.sites` names, by class of the status.",
        Named(NamedGroup.SITE, "class", ("1xx", "2xx", "3xx", "4xx", "5xx")),
    ),
    Metric(
        _HISTOGRAM,
        "styx_site_request_seconds",
        "As `styx_request_seconds`, of the sites that `metrics.sites` names.",
        Named(NamedGroup.SITE),
    ),
    Metric(
        _COUNTER,
        "styx_retries_exhausted_total",
        "Retries that a budget did not allow.",
        _published("retries_exhausted", lambda worker: worker.context.balancer.retries_exhausted),
    ),
    Metric(
        _COUNTER,
        "styx_probes_total",
        "Shadow probes: copies of requests sent to backends on probation; their responses are discarded.",
        _published("probes", lambda worker: worker.context.probes.sent),
    ),
    Metric(
        _COUNTER,
        "styx_reconnects_total",
        "Connect checks: connects in the background to backends that are down.",
        _published("reconnects", lambda worker: worker.context.balancer.checks.connects),
    ),
    Metric(
        _GAUGE,
        "styx_backends_down",
        "Backends that are down: a worker could not connect, and tries again. Each worker counts for itself.",
        _published("backends_down", lambda worker: len(worker.context.balancer.checks.running)),
    ),
    # connections
    Metric(
        _GAUGE,
        "styx_client_connections",
        "Connections of clients now.",
        _published("client_connections", lambda worker: worker.context.counts.connections, Across.EACH),
    ),
    Metric(
        _COUNTER,
        "styx_client_connections_accepted_total",
        "Connections of clients since the start.",
        _published("client_connections_accepted", lambda worker: worker.context.counts.accepted),
    ),
    Metric(
        _COUNTER,
        "styx_client_connections_refused_total",
        "Connections of clients closed at once: over a limit, or not begun as their listener asks for.",
        _published("client_connections_refused", lambda worker: worker.context.counts.refused),
    ),
    Metric(
        _GAUGE,
        "styx_listener_connections",
        "Connections of clients now, by listener.",
        Named(NamedGroup.LISTENER),
    ),
    Metric(
        _COUNTER,
        "styx_listener_connections_accepted_total",
        "Connections of clients since the start, by listener.",
        Named(NamedGroup.LISTENER),
    ),
    Metric(
        _COUNTER,
        "styx_listener_requests_total",
        "Requests begun, by listener.",
        Named(NamedGroup.LISTENER),
    ),
    Metric(
        _GAUGE,
        "styx_http2_connections",
        "Connections of clients with HTTP/2 now.",
        _published("http2_connections", lambda worker: worker.context.h2.connections, Across.EACH),
    ),
    Metric(
        _COUNTER,
        "styx_http2_streams_total",
        "Streams that clients have opened with a request.",
        _published("http2_streams", lambda worker: worker.context.h2.streams),
    ),
    Metric(
        _COUNTER,
        "styx_http2_resets_total",
        "Streams that ended with a reset, by the client or by the edge.",
        _published("http2_resets", lambda worker: worker.context.h2.resets),
    ),
    Metric(
        _COUNTER,
        "styx_http2_goaways_total",
        "HTTP/2 connections that the edge has ended, by reason.",
        Published(tuple(map(_goaway, GoAwayReason)), "reason"),
    ),
    Metric(
        _GAUGE,
        "styx_accept_queue",
        "Connections of clients that wait to be accepted, as last read by the master; a socket that all workers "
        "share is reported for each.",
        AcceptQueues(),
    ),
    Metric(
        _COUNTER,
        "styx_idle_clients_closed_total",
        "Idle connections of clients closed to make room for others.",
        _published("idle_clients_closed", lambda worker: worker.context.idle_clients.closed),
    ),
    Metric(
        _GAUGE,
        "styx_buffered_bytes",
        "Bytes buffered for clients that read or send slowly, by worker (limits.buffers).",
        _published("buffered_bytes", lambda worker: worker.context.buffers.held, Across.EACH),
    ),
    Metric(
        _COUNTER,
        "styx_buffer_limit_cuts_total",
        "Connections of clients cut off because all buffers together exceeded limits.buffers.",
        _published("buffers_cut", lambda worker: worker.context.buffers.cut),
    ),
    Metric(
        _GAUGE,
        "styx_backend_connections",
        "Connections to backends now.",
        Published(
            (
                WorkerNumber("links_idle", lambda worker: worker.context.pool.idle, "idle"),
                WorkerNumber(
                    "links_busy", lambda worker: worker.context.pool.open - worker.context.pool.idle, "busy"
                ),
            ),
            "state",
        ),
    ),
    Metric(
        _COUNTER,
        "styx_backend_connections_opened_total",
        "Connections to backends since the start.",
        _published("links_opened", lambda worker: worker.context.pool.opened),
    ),
    Metric(
        _COUNTER,
        "styx_backend_connections_reused_total",
        "Attempts that reused an idle connection.",
        _published("links_reused", lambda worker: worker.context.pool.reused),
    ),
    # routes
    Metric(
        _GAUGE,
        "styx_routes",
        "Hostnames with a cached route, in the worker that has most.",
        _published(
            "routes",
            lambda worker: len(worker.context.resolver.table) + len(worker.context.resolver.compact_routes),
            Across.MAX,
        ),
    ),
    Metric(
        _GAUGE,
        "styx_routes_ready",
        "Cached routes that are ready to use, in the worker that has most; the others are compact.",
        _published("routes_ready", lambda worker: len(worker.context.resolver.table), Across.MAX),
    ),
    Metric(
        _GAUGE,
        "styx_core_api_lookups_in_flight",
        "Lookups at the core API in flight or waiting for their turn, by worker.",
        _published("lookups_under_way", lambda worker: worker.context.resolver.lookups_under_way, Across.EACH),
    ),
    Metric(
        _GAUGE,
        "styx_unknown_hosts",
        "Hostnames cached as unknown to the core API, in the worker that has most.",
        _published("unknown_hosts", lambda worker: worker.context.resolver.table.unknown_hosts, Across.MAX),
    ),
    Metric(
        _GAUGE,
        "styx_environments",
        "Environments with a cached route, in the worker that has most.",
        _published("environments", lambda worker: len(worker.context.resolver.environments), Across.MAX),
    ),
    Metric(
        _COUNTER,
        "styx_route_lookups_total",
        "Requests by the result of the route cache: a fresh route (hit), an old one (stale), nothing (miss), or an "
        "unknown host (unknown).",
        Published(
            (
                WorkerNumber("route_hits", lambda worker: worker.context.counts.route_hits, "hit"),
                WorkerNumber("route_stale", lambda worker: worker.context.counts.route_stale, "stale"),
                WorkerNumber("route_misses", lambda worker: worker.context.counts.route_misses, "miss"),
                WorkerNumber("unknown_hits", lambda worker: worker.context.counts.unknown_hits, "unknown"),
            ),
            "result",
        ),
    ),
    Metric(
        _COUNTER,
        "styx_routes_not_accepted_total",
        "Responses of the core API that did not replace a known route: of a lower generation; without backends and "
        "not confirmed; held back because many environments lost their backends at once.",
        Published(
            tuple(map(_not_accepted, Rejection)),
            "reason",
        ),
    ),
    Metric(
        _HISTOGRAM,
        "styx_core_api_seconds",
        "Lookups at the core API, by result.",
        Recorded("result", ("route", "not_modified", "unknown", "rejected", "error", "timeout")),
    ),
    Metric(
        _GAUGE,
        "styx_core_api_up",
        "1 = the last lookup of every worker at the core API got a response, or there was none yet.",
        _published("core_api_up", lambda worker: worker.context.resolver.core_api.up, Across.MIN),
    ),
    Metric(
        _GAUGE,
        "styx_changes_up",
        "1 = the stream of changes from the core API is connected.",
        EdgeNumber(lambda state: state.changes.connected),
    ),
    Metric(
        _GAUGE,
        "styx_changes_silence_seconds",
        "Time since the stream of changes last sent anything.",
        EdgeNumber(_age_of_change_stream),
    ),
    Metric(
        _COUNTER,
        "styx_changes_total",
        "Changes received from the core API.",
        EdgeNumber(lambda state: state.changes.events),
    ),
    Metric(
        _COUNTER,
        "styx_changes_gaps_total",
        "Times that all routes were marked stale because changes may have been missed.",
        EdgeNumber(lambda state: state.changes.gaps),
    ),
    Metric(
        _GAUGE,
        "styx_routes_file_up",
        "1 = the file of routes could be used when it was last read.",
        _of_routes_file(lambda file: file.good),
    ),
    Metric(
        _GAUGE,
        "styx_routes_file_hostnames",
        "Hostnames served from the file of routes.",
        _of_routes_file(lambda file: file.hostnames),
    ),
    Metric(
        _GAUGE,
        "styx_routes_file_held_back",
        "Hostnames served although the file of routes no longer has them, or has them without backends.",
        _of_routes_file(lambda file: file.held_back),
    ),
    Metric(
        _GAUGE,
        "styx_error_page_templates",
        "Templates of error pages in use.",
        _of_pages(lambda pages: pages.templates),
    ),
    Metric(
        _GAUGE,
        "styx_error_page_faults",
        "Templates of error pages that are not used, or not with their new content; -1 = the directory cannot be "
        "read.",
        _of_pages(lambda pages: pages.faults if pages.is_readable else -1),
    ),
    # TLS
    Metric(
        _COUNTER,
        "styx_tls_handshakes_total",
        "TLS handshakes of clients: completed ones (`ok`) by version, and whether they resumed a session; others "
        "by the reason of the failure.",
        Published(
            (
                *(_handshakes(version, resumed=resumed) for version in ("1.2", "1.3") for resumed in (False, True)),
                *map(_failed_handshakes, HANDSHAKE_FAILURES),
            ),
            "version,resumed,result",
        ),
    ),
    Metric(
        _HISTOGRAM,
        "styx_tls_handshake_seconds",
        "Completed TLS handshakes, from the accepted connection on, with the wait for a certificate.",
        Recorded(),
    ),
    Metric(
        _COUNTER,
        "styx_backend_tls_handshakes_total",
        "TLS handshakes with backends: full, resumed, with another one than was meant (wrong_backend), or failed.",
        Published(
            (
                _backend_handshakes("full", lambda tls: tls.handshakes - tls.resumed),
                _backend_handshakes("resumed", lambda tls: tls.resumed),
                _backend_handshakes("wrong_backend", lambda tls: tls.wrong),
                _backend_handshakes("failed", lambda tls: tls.failed),
            ),
            "result",
        ),
    ),
    Metric(
        _GAUGE,
        "styx_tls_contexts",
        "Certificates with a ready TLS context, in the worker that has most.",
        _published("tls_contexts", _of_tls(lambda tls: len(tls.hosts)), Across.MAX),
    ),
    Metric(
        _COUNTER,
        "styx_certificate_lookups_total",
        "Lookups of certificates by handshakes: a known one (fresh, stale), one that was asked for, or why there "
        "was none.",
        Published(tuple(map(_certificate_lookups, CERTIFICATE_LOOKUPS)), "result"),
    ),
    Metric(
        _COUNTER,
        "styx_certificates_rejected_total",
        "Certificates from the core API that are not used, by reason: a fault, or a response that an earlier one "
        "contradicts. One that is known is served on.",
        Published(tuple(map(_rejected_certificates, (*CertificateFault, *CertificateRejection))), "reason"),
    ),
    Metric(
        _COUNTER,
        "styx_acme_orders_total",
        "Orders of certificates from the ACME authority (`tls.acme`) that ended, by result. `unknown_host` and "
        "`route_unsure`: not ordered, because the source of routes does not know the hostname, or could not be "
        "asked.",
        Recorded("result", ORDER_RESULTS),
    ),
    Metric(
        _COUNTER,
        "styx_acme_proofs_served_total",
        "Proofs (http-01) that the ACME authority has fetched.",
        _published(
            "acme_proofs_served",
            lambda worker: 0.0 if worker.context.challenges is None else worker.context.challenges.served,
        ),
    ),
    Metric(
        _GAUGE,
        "styx_certificate_soonest_not_after_timestamp_seconds",
        "When the first of all known certificates of sites ends, seconds since the epoch; the year 9999 = there is "
        "none.",
        _published(
            "certificate_soonest_not_after",
            _of_tls(lambda tls: tls.certificates.soonest_not_after or NEVER, NEVER),
            Across.MIN,
        ),
    ),
    Metric(
        _GAUGE,
        "styx_certificate_file_faults",
        "Files of certificates that are not used, or not with their new content; -1 = a worker cannot read their "
        "directory.",
        _published("certificate_file_faults", _of_tls(lambda tls: tls.certificates.faults), Across.MAX),
    ),
    Metric(
        _GAUGE,
        "styx_client_crl_soonest_end_timestamp_seconds",
        "When the first revocation list of clients (`client_crl`) ends, seconds since the epoch; the year 9999 = "
        "there is none.",
        _published("client_crl_soonest_end", _of_tls(lambda tls: tls.soonest_crl_end or NEVER, NEVER), Across.MIN),
    ),
    # styx itself
    Metric(
        _COUNTER,
        "styx_process_cpu_seconds_total",
        "CPU time of each process: master, admin, and each worker.",
        ProcessNumber(),
    ),
    Metric(_GAUGE, "styx_process_resident_memory_bytes", "Memory of each process.", ProcessNumber()),
    Metric(_GAUGE, "styx_process_open_fds", "File descriptors that each process has open.", ProcessNumber()),
    Metric(
        _GAUGE,
        "styx_process_max_fds",
        "File descriptors that each process may open; 0 = no limit.",
        ProcessNumber(),
    ),
    Metric(
        _COUNTER,
        "styx_log_lines_total",
        "Lines of the access log written.",
        _published("log_lines", lambda worker: worker.log.written),
    ),
    Metric(
        _COUNTER,
        "styx_log_lines_dropped_total",
        "Lines of the access log lost: the reader is slow or gone, or the disk is full.",
        _published("log_lines_dropped", lambda worker: worker.log.dropped),
    ),
    Metric(
        _GAUGE,
        "styx_worker_up",
        "Processes in this slot; two while one of them finishes its requests.",
        Recorded(across=Across.EACH),
    ),
    Metric(
        _GAUGE,
        "styx_loop_lag_last_seconds",
        "How late the latest heartbeat of the event loop was; there is one every quarter of a second.",
        Recorded(across=Across.EACH),
    ),
    Metric(
        _HISTOGRAM, "styx_loop_lag_seconds", "How late the heartbeats of the workers' event loops were.", Recorded()
    ),
    Metric(
        _COUNTER,
        "styx_worker_restarts_total",
        "Processes started to replace one that ended by itself, whose event loop stalled, or that sent a message "
        "that it may not send.",
        Recorded(
            "reason",
            tuple(
                f"{process}{reason}"
                for process in ("", "admin_", "issuer_")
                for reason in ("crashed", "stalled", "bad_message")
            ),
        ),
    ),
    Metric(
        _COUNTER,
        "styx_background_failures_total",
        "Failures of background tasks and timers; each is logged, and the task is restarted.",
        Recorded("task", tuple(task.value for task in BackgroundTask)),
    ),
    Metric(
        _COUNTER,
        "styx_control_connections_refused_total",
        "Connections to the control channel that were closed at once: not from a worker of this edge.",
        Recorded(),
    ),
    Metric(_COUNTER, "styx_reloads_total", "Reloads of the configuration.", Recorded("result", RESULTS)),
    Metric(
        _GAUGE,
        "styx_last_reload_success",
        "1 = the last reload succeeded, or there was none yet.",
        Recorded(),
    ),
    Metric(
        _GAUGE,
        "styx_last_reload_timestamp_seconds",
        "When the running configuration was read, seconds since the epoch.",
        Recorded(),
    ),
    Metric(_COUNTER, "styx_upgrades_total", "Upgrades to another version.", Recorded("result", RESULTS)),
    Metric(_GAUGE, "styx_build_info", "Always 1; the labels are the running versions.", BuildInfo()),
)


def worker_status(worker: object, metrics: tuple[Metric, ...] = METRICS) -> Mapping[str, float]:
    """Read all `Published` numbers of a worker; returns them by key."""
    return {
        number.key: number.read(worker)
        for metric in metrics
        if isinstance(metric.source, Published)
        for number in metric.source.numbers
    }
