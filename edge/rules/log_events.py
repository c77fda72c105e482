"""The table of all events of the event log, by the stable code in the field `code`.

    python -m edge.rules.log_events > docs/log_events.md

Tests compare that file with this table, and the table with the log calls in the source.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple


class LogEvent(NamedTuple):
    """One row of the table."""

    code: str
    level: str
    'Its level; two, as "info, warning", if it depends on the case.'
    meaning: str
    fields: tuple[str, ...] = ()
    "Besides `event`, `level`, `logger`, `timestamp`, `by`, and `exception` of an unexpected failure."


_ROUTE_FIELDS = ("hostname", "reason", "left_out_before")
_H2_FIELDS = ("client", "reason", "error", "streams", "left_out_before")
_TAKEN_FIELDS = ("file", "hostnames", "added", "removed", "changed")

EVENTS: Final[tuple[LogEvent, ...]] = (
    # master and processes
    LogEvent("serving", "info", "All workers accept connections.", ("listeners", "admin", "workers")),
    LogEvent("stopping", "info", "A signal to stop was received.", ("signal", "delay", "timeout")),
    LogEvent("drain_cut_short", "warning", "Requests in flight at the end of the drain are cut off.", ("reason",)),
    LogEvent("stopped", "info", "All processes have ended."),
    LogEvent("reloaded", "info", "A reload of the configuration succeeded; `what` lists the changes.", ("what",)),
    LogEvent(
        "setting_renamed",
        "warning",
        "The configuration uses a former name of a setting, which still works; `setting` has its position and its "
        "new name.",
        ("setting",),
    ),
    LogEvent(
        "reload_failed", "error", "A reload failed, and the old settings stay in use; `what` says why.", ("what",)
    ),
    LogEvent("upgraded", "info", "An upgrade succeeded; a new master runs the new version.", ("what",)),
    LogEvent(
        "upgrade_failed",
        "error",
        "An upgrade failed, and the old version stays in use; `what` says why.",
        ("what",),
    ),
    LogEvent("command_failed", "error", "A reload or an upgrade failed because of a fault of styx itself."),
    LogEvent("logs_reopened", "info", "The access log was reopened after SIGUSR1 (rotation)."),
    LogEvent("process_ended", "info", "A process that had to stop has ended.", ("process", "pid", "how")),
    LogEvent(
        "process_died",
        "error",
        "A process ended unexpectedly; it is replaced in `next_in` seconds.",
        ("process", "pid", "how", "why", "lived", "in_a_row", "next_in"),
    ),
    LogEvent(
        "process_stalled",
        "error",
        "A process sent no heartbeat for longer than `watchdog`, and is killed.",
        ("process", "pid", "seconds"),
    ),
    LogEvent(
        "process_not_started", "error", "The system allows no more; it is retried.", ("process", "slot", "error")
    ),
    LogEvent("process_failed", "error", "This process ended because of a fault of styx itself.", ("title",)),
    LogEvent(
        "bad_channel_message",
        "error",
        "A message between the master and a child was not valid; a child that sent it is replaced.",
        ("process", "pid", "error"),
    ),
    LogEvent("channel_message_not_sent", "error", "A message to the master could not be encoded.", ("error",)),
    LogEvent(
        "channel_message_failed",
        "error",
        "Handling a message of the master failed.",
        ("message_type",),
    ),
    LogEvent(
        "accepting_for_another",
        "warning",
        "A worker also accepts for a slot whose worker has ended, is stalled or does not empty its queue.",
        ("process", "slot"),
    ),
    LogEvent(
        "socket_not_received",
        "error",
        "This worker cannot accept connections of another slot: it has no file descriptor left.",
        ("slot",),
    ),
    LogEvent(
        "accept_queue_stuck",
        "error",
        "The accept queue of a worker does not become shorter.",
        ("process", "pid", "listener", "length", "seconds"),
    ),
    LogEvent(
        "accept_queue_emptied",
        "info",
        "The accept queue of a worker is empty again.",
        ("process", "pid", "listener", "length"),
    ),
    LogEvent(
        "too_few_open_files",
        "warning",
        "A worker may open fewer files than `limits` and `pool` need; its limits of connections are lower.",
        ("remedy", "allowed", "needed", "connections"),
    ),
    LogEvent("open_files_not_raised", "warning", "The soft limit of open files could not be raised.", ("error",)),
    LogEvent(
        "systemd_not_notified", "warning", "A message could not be sent to NOTIFY_SOCKET.", ("error", "details")
    ),
    LogEvent(
        "settings_not_used", "error", "This process could not apply reloaded settings; the old ones stay in use."
    ),
    LogEvent(
        "log_level_overridden",
        "warning",
        "An operator has set another level of the event log for some time, in this process.",
        ("log_level",),
    ),
    LogEvent(
        "log_level_restored",
        "warning",
        "The level of the event log is the configured one again, in this process.",
        ("log_level",),
    ),
    # sockets
    LogEvent(
        "socket_without_listener",
        "warning",
        "An inherited socket belongs to no configured listener; it is closed.",
        ("address",),
    ),
    LogEvent("sockets_handed_over", "info", "Another edge received the listening sockets of this one."),
    LogEvent("sockets_taken_over", "info", "The other edge accepts connections; this one only drains."),
    LogEvent("handover_failed", "warning", "Handing over the listening sockets failed.", ("error",)),
    LogEvent(
        "handover_refused", "warning", "A process of another user requested the listening sockets.", ("user",)
    ),
    LogEvent("sockets_not_received", "warning", "A draining edge did not hand over its sockets.", ("error",)),
    LogEvent(
        "admin_socket_unavailable",
        "warning",
        "No Unix socket for the admin API could be opened; `tried` says where and why.",
        ("tried",),
    ),
    # control channel
    LogEvent("control_unavailable", "debug", "A worker cannot reach the admin process; it retries.", ("error",)),
    LogEvent(
        "control_accept_failed",
        "error",
        "The control channel could not accept a connection; it retries.",
        ("error",),
    ),
    LogEvent(
        "control_connections_refused",
        "warning",
        "Connections to the control channel that did not come from workers of this edge were refused.",
        ("count",),
    ),
    LogEvent("control_hello_late", "warning", "A worker did not send its first message in time.", ("pid",)),
    LogEvent(
        "bad_control_message",
        "warning",
        "A message on the control channel was not valid; the connection is closed.",
        ("pid", "error"),
    ),
    LogEvent(
        "control_message_not_sent", "error", "A message on the control channel could not be encoded.", ("error",)
    ),
    LogEvent("control_message_failed", "error", "Handling a control message failed.", ("message_type",)),
    LogEvent(
        "control_request_failed", "error", "Handling a request of the admin process failed.", ("message_type",)
    ),
    LogEvent("control_connection_stalled", "warning", "The admin process does not read; the connection is closed."),
    LogEvent(
        "worker_misses_changes",
        "warning",
        "A worker reads too slowly to receive all changes: all its routes become stale.",
        ("pid",),
    ),
    LogEvent(
        "changes_overflow",
        "warning",
        "Too many changes at once to send each of them: all routes become stale.",
        ("unpublished",),
    ),
    # admin process
    LogEvent("admin_command", "info", "An operator's command was accepted.", ("path", "user")),
    LogEvent("drain_set", "info", "An operator began or ended a drain.", ("kind", "name", "seconds", "user")),
    LogEvent("status_snapshot_failed", "error", "The status page stands still because of a fault."),
    LogEvent("admin_request_failed", "error", "A request to the admin API failed because of a fault.", ("path",)),
    LogEvent(
        "admin_connections_full",
        "warning",
        "Connections to the admin API were closed to make room for newer ones.",
        ("closed",),
    ),
    LogEvent("admin_token_read", "info", "`admin.token_file` has changed; it is used from the next request on."),
    LogEvent(
        "core_api_token_read", "info", "`core_api.token_file` has changed; it is used from the next request on."
    ),
    LogEvent(
        "own_certificate_read",
        "info",
        "A file of `core_api.tls` or `backends.tls`, a `client_ca`, `client_crl` or `tls.tickets.file` has "
        "changed: read again.",
    ),
    LogEvent("files_not_watched", "warning", "Files cannot be watched; they are polled.", ("files", "error")),
    LogEvent(
        "changed_file_not_used",
        "error",
        "A changed file could not be read; the old content stays in use.",
        ("file", "error"),
    ),
    LogEvent(
        "directory_not_watched",
        "debug",
        "A directory cannot be watched; the file in it is polled.",
        ("directory", "error"),
    ),
    # background
    LogEvent(
        "background_task_ended",
        "error",
        "A background task failed; it is restarted in `restart_in` seconds.",
        ("task", "error", "in_a_row", "restart_in"),
    ),
    LogEvent(
        "background_timer_failed",
        "error",
        "One run of a periodic task failed; the next runs follow.",
        ("task", "error", "in_a_row"),
    ),
    LogEvent("unhandled_error", "error", "An error that nobody caught.", ("error", "details", "where")),
    LogEvent("background_work_failed", "error", "A long task that runs in slices failed."),
    LogEvent("deferred_work_failed", "error", "Work deferred to a later turn of the loop failed.", ("work",)),
    LogEvent("deferred_read_failed", "error", "A deferred read from a connection failed."),
    LogEvent("deadline_failed", "error", "The action at a deadline failed.", ("member",)),
    LogEvent("connection_end_failed", "error", "Ending a connection failed.", ("connection",)),
    LogEvent("cut_off_failed", "error", "Cutting off a slow client failed.", ("connection",)),
    LogEvent("dial_failed", "error", "Connecting to a backend had an internal error.", ("backend",)),
    LogEvent("connect_check_failed", "error", "A connect check of a backend that is down had an internal error."),
    # access log
    LogEvent("access_log_lines_lost", "error", "The access log cannot be written.", ("target", "error")),
    LogEvent("access_log_restored", "warning", "The access log can be written again.", ("target", "lost")),
    LogEvent(
        "access_log_not_reopened",
        "error",
        "The access log could not be reopened; the old file stays in use.",
        ("target", "error"),
    ),
    # clients and backends
    LogEvent(
        "connection_refused",
        "debug",
        "A client's connection was closed because it exceeded a limit.",
        ("client", "limit"),
    ),
    LogEvent(
        "proxy_header_rejected",
        "debug",
        "A connection did not begin with a valid PROXY header from a trusted network.",
        ("client", "reason"),
    ),
    LogEvent("request_rejected", "debug", "A request head was not valid.", ("client", "cause", "reason")),
    LogEvent("request_body_rejected", "debug", "A request body was not valid.", ("client", "error")),
    LogEvent("http2_connection_ended", "warning", "A client's fault was answered with a GOAWAY.", _H2_FIELDS),
    LogEvent(
        "buffer_limit",
        "warning",
        "Slow clients were cut off: all buffers together exceeded `limits.buffers`.",
        ("held", "limit", "cut", "left_out_before"),
    ),
    LogEvent(
        "response_too_large",
        "warning",
        "The head of a backend's response exceeds a limit.",
        ("backend", "limited_by", "size", "limit", "left_out_before"),
    ),
    LogEvent(
        "own_certificate_not_used",
        "error",
        "Changed files with the certificate of styx cannot be used; those from before are used on.",
        ("setting", "reason"),
    ),
    LogEvent(
        "backend_sessions_ended",
        "warning",
        "This version of Python loses memory for each TLS session that is remembered of a backend. The worker has "
        "lost as much as it may: from now on each connection to a backend has a full handshake, until the worker "
        "is replaced (`styx upgrade`). Python 3.12.8, 3.13.1 and later versions do not have this fault.",
        ("python",),
    ),
    LogEvent(
        "ticket_secrets_not_used",
        "error",
        "A changed `tls.tickets.file` cannot be used; the secrets from before are used on.",
        ("reason",),
    ),
    LogEvent(
        "client_ca_not_used",
        "error",
        "A changed `client_ca` or `client_crl` of a listener cannot be used; the authorities and revocation lists "
        "from before are believed on.",
        ("file", "reason"),
    ),
    LogEvent(
        "client_crl_not_in_force",
        "error",
        "A revocation list in a `client_crl` has ended, or has not begun: no client of this authority is let in. "
        "Told again each hour.",
        ("file", "issuer", "begins", "ends"),
    ),
    LogEvent(
        "wrong_backend",
        "warning",
        "Somebody else than the backend is at its address, by the certificate.",
        ("backend", "reason", "left_out_before"),
    ),
    # lookups
    LogEvent(
        "core_api_circuit_open",
        "error",
        "The core API fails; it is only probed now and then, and no request waits for it.",
    ),
    LogEvent("core_api_circuit_closed", "warning", "The core API works again."),
    LogEvent(
        "tls_handshake_failed",
        "debug",
        "A TLS handshake of a client failed; OpenSSL says why.",
        ("client", "error"),
    ),
    LogEvent(
        "certificate_unusable", "debug", "OpenSSL takes no certificate of a hostname; it is refused.", ("error",)
    ),
    LogEvent(
        "certificate_failed", "error", "The lookup of a certificate failed because of a fault of styx.", ("error",)
    ),
    LogEvent(
        "ticket_keys_unavailable",
        "warning",
        "Ticket keys cannot be set in this OpenSSL: a worker resumes only TLS sessions of its own.",
        ("reason",),
    ),
    LogEvent(
        "certificate_circuit_open",
        "error",
        "The core API fails when it is asked for certificates; it is only probed now and then, and names without a "
        "certificate are refused at once.",
    ),
    LogEvent("certificate_circuit_closed", "warning", "The core API responds to lookups of certificates again."),
    LogEvent(
        "certificate_lookup_failed",
        "warning",
        "The certificate of a hostname was not obtained from the core API; the one that is known is served on.",
        _ROUTE_FIELDS,
    ),
    LogEvent(
        "certificate_rejected",
        "warning",
        "A certificate, or a part of what was sent with it, is not used; the one before it is served until its "
        "end. `reason` is a stable code, `certificate` a hostname or a file.",
        ("certificate", "reason", "details", "source", "left_out_before"),
    ),
    LogEvent("certificate_fault", "error", "A lookup of a certificate failed because of a fault.", ("hostname",)),
    LogEvent(
        "certificate_directory_unreadable",
        "error",
        "The directory of certificates cannot be read; the certificates in use stay in use.",
        ("directory", "error"),
    ),
    LogEvent(
        "issuer_began",
        "info",
        "The issuer orders certificates (`tls.acme`); it knows so many names from before.",
        ("names",),
    ),
    LogEvent("issuer_waits", "info", "Another process orders certificates into the directory; this one waits."),
    LogEvent("acme_account", "info", "The account at the certificate authority.", ("account", "directory")),
    LogEvent(
        "certificate_issued",
        "info",
        "A certificate was obtained; `step` is first, renew, or resume (of an order that was interrupted).",
        ("hostname", "step", "days"),
    ),
    LogEvent(
        "certificate_order_failed",
        "warning",
        "An order failed; `reason` is a stable code, `details` what the authority says.",
        ("hostname", "reason", "details", "failures", "retry_in"),
    ),
    LogEvent(
        "certificate_not_ordered",
        "warning",
        "A certificate was not ordered: the source of routes does not know the hostname, or could not be asked.",
        ("hostname", "reason"),
    ),
    LogEvent("certificate_order_fault", "error", "An order failed because of a fault of styx.", ("hostname",)),
    LogEvent(
        "acme_authority_failed",
        "error",
        "The certificate authority could not be reached, or failed; all orders wait.",
        ("reason", "retry_in"),
    ),
    LogEvent(
        "renewal_time_unknown",
        "warning",
        "The authority could not be asked when to renew a certificate; it is renewed by its age.",
        ("hostname", "reason"),
    ),
    LogEvent(
        "certificate_files_read",
        "info",
        "Files of certificates were read; they are used from the next handshake on.",
        ("directory", "pairs", "names", "read", "faults"),
    ),
    LogEvent(
        "certificate_names_dropped",
        "warning",
        "Hostnames had a certificate and have none any more: its files were removed, it has ended, or the new one "
        "does not cover them.",
        ("directory", "names", "hostnames"),
    ),
    LogEvent("core_api_failed", "warning", "The lookup of a hostname at the core API failed.", _ROUTE_FIELDS),
    LogEvent(
        "core_api_bad_response",
        "warning",
        "A response of the core API is not valid and not used.",
        _ROUTE_FIELDS,
    ),
    LogEvent(
        "core_api_wrong_hostname",
        "warning",
        "A response of the core API is about another hostname; it is not used.",
        _ROUTE_FIELDS,
    ),
    LogEvent(
        "core_api_bad_redirect",
        "warning",
        "A response of the core API has a redirect that cannot be sent; it is not used.",
        _ROUTE_FIELDS,
    ),
    LogEvent(
        "core_api_bad_backend", "warning", "A backend in a response is not valid; it is not used.", _ROUTE_FIELDS
    ),
    LogEvent(
        "core_api_backend_needs_tls",
        "warning",
        "A backend is to be reached over TLS, and cannot be (`backends.tls`); it is not used.",
        _ROUTE_FIELDS,
    ),
    LogEvent("core_api_too_many_backends", "warning", "Backends beyond the limit are not used.", _ROUTE_FIELDS),
    LogEvent(
        "core_api_unknown_role",
        "warning",
        "A backend with an unknown role is used as an active one.",
        _ROUTE_FIELDS,
    ),
    LogEvent(
        "core_api_unknown_state",
        "warning",
        "A backend with an unknown state is used as a running one.",
        _ROUTE_FIELDS,
    ),
    LogEvent(
        "lower_generation",
        "warning",
        "A response has a lower generation than the known route. It is accepted when it has not changed for "
        "`routes.regression_after`, or after `styx invalidate`.",
        _ROUTE_FIELDS,
    ),
    LogEvent(
        "removal_unconfirmed",
        "warning",
        "A response removes all backends of a known hostname without a higher generation. It is accepted when it "
        "has not changed for `routes.removal_hold`, or after `styx invalidate`.",
        _ROUTE_FIELDS,
    ),
    LogEvent(
        "removal_held_back",
        "warning",
        "As `removal_unconfirmed`, for one of many environments that lose their backends at once.",
        _ROUTE_FIELDS,
    ),
    LogEvent(
        "mass_removal_held_back",
        "error",
        "Many environments lose all their backends, go into maintenance or are redirected at once; `restored` "
        "hostnames are served again, until that has lasted for `routes.removal_hold`, or until `styx invalidate`.",
        ("restored",),
    ),
    LogEvent("route_lookup_failed", "error", "A lookup failed because of a fault.", ("hostname",)),
    LogEvent(
        "route_not_encodable", "error", "A route cannot be saved or sent to other workers.", ("hostname", "error")
    ),
    LogEvent("saved_route_unreadable", "error", "A saved route cannot be decoded.", ("hostname", "error")),
    LogEvent("change_stream_connected", "info", "The stream of changes from the core API is connected."),
    LogEvent(
        "change_stream_lost",
        "warning",
        "The stream of changes is lost; routes are looked up when they are no longer fresh.",
        ("reason",),
    ),
    LogEvent("change_not_encodable", "error", "A change cannot be published in Redis.", ("error",)),
    LogEvent(
        "redis_changes_lost",
        "error",
        "Changes of other edges are not received; routes are looked up when they are no longer fresh.",
        ("error",),
    ),
    LogEvent("redis_routes_unusable", "error", "Redis fails; lookups go to the core API only.", ("error",)),
    LogEvent("redis_routes_usable", "warning", "Redis works again."),
    LogEvent("redis_record_damaged", "error", "A route in Redis cannot be decoded.", ("hostname", "error")),
    # saved routes
    LogEvent("routes_not_read", "error", "Saved routes cannot be read.", ("file", "error")),
    LogEvent(
        "routes_damaged",
        "error",
        "A record of the saved routes is damaged; those after it are not used.",
        ("file", "error"),
    ),
    LogEvent("routes_not_saved", "error", "Routes cannot be written to `routes.directory`.", ("error",)),
    LogEvent("routes_not_removed", "warning", "A temporary directory of routes could not be removed.", ("error",)),
    LogEvent(
        "saved_routes_replaced",
        "warning",
        "A file in `routes.directory` that styx did not write was replaced.",
        ("file", "error"),
    ),
    # the file of routes
    LogEvent(
        "routes_file_taken_over",
        "info, warning",
        "The file is in use from now on; warning: a large change.",
        (*_TAKEN_FIELDS, "by_reload"),
    ),
    LogEvent(
        "routes_file_held_back",
        "error",
        "The file removes many hostnames; it is used later, or after a reload.",
        (*_TAKEN_FIELDS, "taken_over_in"),
    ),
    LogEvent(
        "routes_file_not_used",
        "error",
        "The file has faults; the routes in use stay.",
        ("file", "faults", "more", "hostnames"),
    ),
    LogEvent(
        "routes_file_unreadable",
        "error",
        "The file cannot be read; the routes in use stay.",
        ("file", "faults", "more", "hostnames"),
    ),
    LogEvent("routes_file_usable", "info", "The file can be used again.", ("file",)),
    LogEvent("routes_file_look_failed", "error", "Reading the file failed because of a fault.", ("file",)),
    LogEvent("routes_file_missing", "error", "A worker starts without the routes of the file.", ("file",)),
    LogEvent("routes_table_unreadable", "error", "The saved routes of the file cannot be used.", ("file", "error")),
    LogEvent(
        "routes_table_not_saved",
        "error",
        "The routes of the file could not be saved for a restart.",
        ("file", "error"),
    ),
    LogEvent("routes_push_failed", "error", "A worker could not apply routes of the file."),
    # error pages
    LogEvent(
        "pages_taken_over",
        "info",
        "Templates of error pages are in use from now on; `changed`: how many are new, other or gone.",
        ("directory", "templates", "changed", "by_reload"),
    ),
    LogEvent(
        "pages_not_used",
        "error",
        "Templates have faults; each stays what it was before, or the next one that fits is used.",
        ("directory", "faults", "more"),
    ),
    LogEvent("pages_usable", "info", "No template has a fault any more.", ("directory",)),
    LogEvent(
        "pages_directory_unreadable",
        "error",
        "`pages.directory` cannot be read; the error pages in use stay.",
        ("directory", "error", "templates"),
    ),
    LogEvent("pages_directory_usable", "info", "`pages.directory` can be read again.", ("directory",)),
    # the pocket platform of demos and tests
    LogEvent("core_api_up", "info", "The platform's core API listens.", ("url",)),
    LogEvent("container_up", "info", "A container runs.", ("container", "site", "environment", "port")),
    LogEvent("container_down", "info", "A container was stopped.", ("container",)),
    LogEvent("container_put_to_sleep", "info", "The Reaper put an idle container to sleep.", ("container", "site")),
    LogEvent(
        "container_migrated",
        "info",
        "The migration dragon moved a container to another server.",
        ("container", "source", "target"),
    ),
    LogEvent("upkeep_failed", "error", "The Reaper or the dragon failed; it goes on.", ("upkeep", "error")),
    LogEvent("container_not_woken", "error", "A sleeping container did not start.", ("container", "error")),
    LogEvent(
        "goal_not_reached",
        "error",
        "Containers could not be started or stopped; this is retried.",
        ("site", "environment", "error", "retry_in"),
    ),
)

INTRODUCTION = """\
# Events of the event log

styx writes its event log to standard error (`log.format`, `log.level`). `event` is a short text for people and may
change; `code` is stable: alert on it. Each event also has `level`, `logger`, `timestamp` and `by`, the process that
wrote it; an unexpected failure has `exception` too. Kinds of events that clients can cause are rate-limited, so
that nobody can flood the log: `left_out_before` counts the events of this kind left out since the last one.
Warnings of libraries have no code.

Made from `edge/rules/log_events.py` by `python -m edge.rules.log_events > docs/log_events.md`.

| code | level | meaning | fields |
| --- | --- | --- | --- |
"""


def render(events: Iterable[LogEvent] = EVENTS) -> str:
    """The text of docs/log_events.md."""
    rows = (
        f"| `{event.code}` | {event.level} | {event.meaning} | {', '.join(f'`{f}`' for f in event.fields)} |\n"
        for event in events
    )
    return INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    print(render(), end="")
