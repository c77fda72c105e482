"""Every event that styx writes to its event log, by the stable code in the field `code`.

    python -m edge.rules.log_events > docs/log_events.md

Tests compare that file with this table, and the table with the calls in the source.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple


class LogEvent(NamedTuple):
    """One row of the table."""

    code: str
    level: str
    "Two, with a comma between, where it depends on the case."
    meaning: str
    fields: tuple[str, ...] = ()
    "Beside `event`, `level`, `logger`, `timestamp`, `by`, and `exception` of a failure that nobody foresaw."


_ROUTE_FIELDS = ("hostname", "reason", "left_out_before")
_TAKEN_FIELDS = ("file", "hostnames", "added", "removed", "changed")

EVENTS: Final[tuple[LogEvent, ...]] = (
    # master and processes
    LogEvent("serving", "info", "All workers accept.", ("listeners", "admin", "workers")),
    LogEvent("stopping", "info", "A signal to stop has come.", ("signal", "delay", "timeout")),
    LogEvent("drain_cut_short", "warning", "Requests in flight are cut off at the end of the drain.", ("reason",)),
    LogEvent("stopped", "info", "All processes have ended."),
    LogEvent(
        "reloaded", "info", "A reload of the configuration succeeded; `what` says what is different.", ("what",)
    ),
    LogEvent(
        "setting_renamed",
        "warning",
        "The configuration has a setting by its former name, which still works; `setting` says where it stands and "
        "what it is called now.",
        ("setting",),
    ),
    LogEvent("reload_failed", "error", "A reload left everything as it was; `what` says why.", ("what",)),
    LogEvent("upgraded", "info", "A new master serves with the new version.", ("what",)),
    LogEvent("upgrade_failed", "error", "The old version goes on; `what` says why.", ("what",)),
    LogEvent("command_failed", "error", "A reload or an upgrade met a fault of styx itself."),
    LogEvent("logs_reopened", "info", "SIGUSR1: the access log is opened again, after rotation."),
    LogEvent("process_ended", "info", "A process that was told to end has ended.", ("process", "pid", "how")),
    LogEvent(
        "process_died",
        "error",
        "A process ended by itself; another takes its place in `next_in` seconds.",
        ("process", "pid", "how", "why", "lived", "in_a_row", "next_in"),
    ),
    LogEvent(
        "process_stalled",
        "error",
        "A process was silent for longer than `watchdog`, and is killed.",
        ("process", "pid", "seconds"),
    ),
    LogEvent(
        "process_not_started",
        "error",
        "The system allows no more processes; it is tried again.",
        ("process", "slot", "error"),
    ),
    LogEvent("process_failed", "error", "A fault of styx itself ended this process.", ("title",)),
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
        "A message of the master could not be carried out.",
        ("message_type",),
    ),
    LogEvent(
        "accepting_for_another",
        "warning",
        "A worker also accepts for a slot whose worker is gone, stands still or does not empty its queue.",
        ("process", "slot"),
    ),
    LogEvent(
        "socket_not_received",
        "error",
        "This worker cannot accept for another one: it has no file descriptor left.",
        ("slot",),
    ),
    LogEvent(
        "accept_queue_stuck",
        "error",
        "Connections wait, and the worker accepts fewer than come.",
        ("process", "pid", "listener", "length", "seconds"),
    ),
    LogEvent(
        "accept_queue_emptied",
        "info",
        "The worker accepts again.",
        ("process", "pid", "listener", "length"),
    ),
    LogEvent(
        "too_few_open_files",
        "warning",
        "A worker may open fewer files than `limits` and `pool` need, and so keeps fewer connections.",
        ("remedy", "allowed", "needed", "connections"),
    ),
    LogEvent("open_files_not_raised", "warning", "The soft limit of open files stays as it is.", ("error",)),
    LogEvent("systemd_not_notified", "warning", "NOTIFY_SOCKET does not take messages.", ("error", "said")),
    LogEvent("settings_not_used", "error", "This process could not use reloaded settings; the old ones go on."),
    # sockets
    LogEvent(
        "socket_without_listener", "warning", "An inherited socket is not configured; it is closed.", ("address",)
    ),
    LogEvent("sockets_handed_over", "info", "Another edge received the listening sockets of this one."),
    LogEvent("sockets_taken_over", "info", "The other edge accepts; this one only drains."),
    LogEvent("handover_failed", "warning", "The listening sockets could not be handed over.", ("error",)),
    LogEvent("handover_refused", "warning", "Another user asked for the listening sockets.", ("user",)),
    LogEvent("sockets_not_received", "warning", "A draining edge did not hand over its sockets.", ("error",)),
    LogEvent(
        "admin_socket_unavailable",
        "warning",
        "No Unix socket for the admin API could be opened; `tried` says where and why.",
        ("tried",),
    ),
    # control channel
    LogEvent(
        "control_unavailable", "debug", "A worker does not reach the admin process; it tries again.", ("error",)
    ),
    LogEvent("control_accept_failed", "error", "The control channel could not accept for a moment.", ("error",)),
    LogEvent(
        "control_connections_refused",
        "warning",
        "Connections to the control channel that were not from workers of this edge.",
        ("count",),
    ),
    LogEvent("control_hello_late", "warning", "A worker did not introduce itself in time.", ("pid",)),
    LogEvent(
        "bad_control_message",
        "warning",
        "A message on the control channel was not valid; the connection is closed.",
        ("pid", "error"),
    ),
    LogEvent("control_message_not_sent", "error", "A message could not be encoded.", ("error",)),
    LogEvent("control_message_failed", "error", "A message could not be carried out.", ("message_type",)),
    LogEvent("control_request_failed", "error", "A question of the admin process met a fault.", ("message_type",)),
    LogEvent("control_connection_stalled", "warning", "The admin process does not read; the connection is closed."),
    LogEvent("worker_misses_changes", "warning", "A worker reads slowly: all its routes become stale.", ("pid",)),
    LogEvent(
        "changes_overflow",
        "warning",
        "More changes at once than are told one by one: all routes become stale.",
        ("untold",),
    ),
    # admin process
    LogEvent("admin_command", "info", "An operator's command was accepted.", ("path", "user")),
    LogEvent("admin_request_failed", "error", "A request to the admin API met a fault.", ("path",)),
    LogEvent(
        "admin_connections_full",
        "warning",
        "Connections to the admin API were closed to make room for newer ones.",
        ("closed",),
    ),
    LogEvent("admin_token_read", "info", "`admin.token_file` has changed, and holds from the next request on."),
    LogEvent(
        "core_api_token_read", "info", "`core_api.token_file` has changed, and holds from the next request on."
    ),
    LogEvent("files_not_watched", "warning", "Files are looked at from time to time instead.", ("files", "error")),
    LogEvent(
        "changed_file_not_used",
        "error",
        "A changed file could not be read; the old content holds.",
        ("file", "error"),
    ),
    LogEvent(
        "directory_not_watched", "debug", "The file in it is looked at from time to time.", ("directory", "error")
    ),
    # background
    LogEvent(
        "background_task_ended",
        "error",
        "A background task failed; it is started again in `restart_in` seconds.",
        ("task", "error", "in_a_row", "restart_in"),
    ),
    LogEvent(
        "background_timer_failed", "error", "A periodic task failed; it goes on.", ("task", "error", "in_a_row")
    ),
    LogEvent("unhandled_error", "error", "An error that nobody caught.", ("error", "said", "where")),
    LogEvent("background_work_failed", "error", "A long task in slices met a fault."),
    LogEvent("deferred_work_failed", "error", "Work put off to a later turn of the loop met a fault.", ("work",)),
    LogEvent("deferred_read_failed", "error", "Reading on from a connection met a fault."),
    LogEvent("deadline_failed", "error", "What was to happen at a deadline met a fault.", ("member",)),
    LogEvent("connection_end_failed", "error", "The end of a connection met a fault.", ("connection",)),
    LogEvent("cut_off_failed", "error", "Cutting off a slow client met a fault.", ("connection",)),
    LogEvent("reconnect_failed", "error", "A connect to a backend that is down met a fault."),
    # access log
    LogEvent("access_log_lines_lost", "error", "The access log cannot be written.", ("target", "error")),
    LogEvent("access_log_restored", "warning", "The access log can be written again.", ("target", "lost")),
    LogEvent("access_log_not_reopened", "error", "The old file is written on.", ("target", "error")),
    # clients and backends
    LogEvent(
        "connection_refused", "debug", "A client's connection beyond a limit was closed.", ("client", "limit")
    ),
    LogEvent(
        "proxy_header_rejected",
        "debug",
        "A connection did not begin with a PROXY header that may be believed.",
        ("client", "reason"),
    ),
    LogEvent("request_rejected", "debug", "A request head was not valid.", ("client", "cause", "reason")),
    LogEvent("request_body_rejected", "debug", "A request body was not valid.", ("client", "error")),
    LogEvent(
        "buffer_limit",
        "warning",
        "Slow clients were cut off: buffers together were beyond `limits.buffers`.",
        ("held", "limit", "cut", "left_out_before"),
    ),
    LogEvent(
        "response_too_large",
        "warning",
        "The head of a backend's response is beyond a limit.",
        ("backend", "limited_by", "size", "limit", "left_out_before"),
    ),
    # look-ups
    LogEvent(
        "core_api_circuit_open", "error", "The core API fails; it is asked now and then, and nobody waits for it."
    ),
    LogEvent("core_api_circuit_closed", "warning", "The core API answers again."),
    LogEvent("core_api_failed", "warning", "The core API could not be asked for a hostname.", _ROUTE_FIELDS),
    LogEvent("core_api_bad_answer", "warning", "A response of the core API is not used.", _ROUTE_FIELDS),
    LogEvent(
        "core_api_wrong_hostname", "warning", "A response is about another hostname; it is not used.", _ROUTE_FIELDS
    ),
    LogEvent(
        "core_api_bad_redirect",
        "warning",
        "A redirect that cannot be sent; the response is not used.",
        _ROUTE_FIELDS,
    ),
    LogEvent("core_api_bad_backend", "warning", "A backend of a response is not used.", _ROUTE_FIELDS),
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
        "A response has a lower generation than the known route. It is accepted when it has been the same for "
        "`routes.regression_after`, or after `styx invalidate`.",
        _ROUTE_FIELDS,
    ),
    LogEvent(
        "removal_unconfirmed",
        "warning",
        "A response removes all backends of a known hostname without a higher generation. It is accepted when it "
        "has been the same for `routes.removal_hold`, or after `styx invalidate`.",
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
        "Many environments lose all their backends at once; `restored` hostnames that had been removed are served "
        "again, until it has been so for `routes.removal_hold`, or until `styx invalidate`.",
        ("restored",),
    ),
    LogEvent("route_lookup_failed", "error", "A look-up met a fault.", ("hostname",)),
    LogEvent(
        "route_not_encodable", "error", "A route cannot be saved or told to other workers.", ("hostname", "error")
    ),
    LogEvent("saved_route_unreadable", "error", "A saved route cannot be decoded.", ("hostname", "error")),
    LogEvent("change_stream_connected", "info", "Changes come from the core API."),
    LogEvent("change_stream_lost", "warning", "No changes come; routes are renewed by time.", ("reason",)),
    LogEvent("change_not_encodable", "error", "A change cannot be published in Redis.", ("error",)),
    LogEvent(
        "redis_changes_lost", "error", "Changes of other edges do not come; routes are renewed by time.", ("error",)
    ),
    LogEvent("redis_routes_unusable", "error", "Redis fails; only the core API is asked.", ("error",)),
    LogEvent("redis_routes_usable", "warning", "Redis works again."),
    LogEvent("redis_record_damaged", "error", "A route in Redis cannot be decoded.", ("hostname", "error")),
    # saved routes
    LogEvent("routes_not_read", "error", "Saved routes cannot be read.", ("file", "error")),
    LogEvent("routes_damaged", "error", "Saved routes after a damaged record are not used.", ("file", "error")),
    LogEvent("routes_not_saved", "error", "Routes cannot be written to `routes.directory`.", ("error",)),
    LogEvent("routes_not_removed", "warning", "A temporary directory of routes stays.", ("error",)),
    LogEvent("saved_routes_replaced", "warning", "A file that is not ours was replaced.", ("file", "error")),
    # the file of routes
    LogEvent(
        "routes_file_taken_over",
        "info, warning",
        "The file holds from now on; warning: a large change.",
        (*_TAKEN_FIELDS, "by_reload"),
    ),
    LogEvent(
        "routes_file_held_back",
        "error",
        "The file removes many hostnames; it is taken over later, or by a reload.",
        (*_TAKEN_FIELDS, "taken_over_in"),
    ),
    LogEvent(
        "routes_file_not_used",
        "error",
        "The file has faults; what held goes on.",
        ("file", "faults", "more", "hostnames"),
    ),
    LogEvent(
        "routes_file_unreadable",
        "error",
        "The file cannot be read; what held goes on.",
        ("file", "faults", "more", "hostnames"),
    ),
    LogEvent("routes_file_usable", "info", "The file can be used again.", ("file",)),
    LogEvent("routes_file_look_failed", "error", "Reading the file met a fault.", ("file",)),
    LogEvent("routes_file_missing", "error", "A worker begins without the routes of the file.", ("file",)),
    LogEvent("routes_table_unreadable", "error", "What was saved of the file cannot be used.", ("file", "error")),
    LogEvent(
        "routes_table_not_saved", "error", "The routes of the file are not saved for a restart.", ("file", "error")
    ),
    LogEvent("routes_push_failed", "error", "A worker could not take over routes of the file."),
    # the pocket platform of demos and tests
    LogEvent("core_api_up", "info", "The platform's core API listens.", ("url",)),
    LogEvent("container_up", "info", "A container runs.", ("container", "site", "environment", "port")),
    LogEvent("container_down", "info", "A container was stopped.", ("container",)),
    LogEvent("container_not_woken", "error", "A sleeping container did not start.", ("container", "error")),
    LogEvent(
        "goal_not_reached",
        "error",
        "Containers could not be started or stopped; it is tried again.",
        ("site", "environment", "error", "retry_in"),
    ),
)

INTRODUCTION = """\
# Events of the event log

What styx writes to standard error (`log.format`, `log.level`). `event` is a short text for people and may change;
`code` is stable: alert on it. Each event also has `level`, `logger`, `timestamp` and `by`, the process that wrote
it; an unexpected failure has `exception` too. `left_out_before` counts events of this kind that were left out since
the last one, so that nobody can flood the log. Warnings of libraries have no code.

Made from `edge/rules/log_events.py` by `python -m edge.rules.log_events > docs/log_events.md`.

| code | level | meaning | fields |
| --- | --- | --- | --- |
"""


def render(events: Iterable[LogEvent] = EVENTS) -> str:
    """docs/log_events.md."""
    rows = (
        f"| `{event.code}` | {event.level} | {event.meaning} | {', '.join(f'`{f}`' for f in event.fields)} |\n"
        for event in events
    )
    return INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    print(render(), end="")
