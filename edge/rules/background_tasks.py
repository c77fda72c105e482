"""Names of the long-lived tasks and timers of a process, and the backoff with which a failed one is restarted."""

from enum import StrEnum
from typing import Final

HEARTBEAT_PERIOD: Final = 0.25
"Seconds between two heartbeats of a process."
SHORTEST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 30.0
"Seconds before a failed task is restarted: doubled with each failure in a row."
HEALTHY_RUN: Final = 60.0
"Seconds after which a task counts as healthy: if it fails later, the backoff begins with the shortest pause."


class BackgroundTask(StrEnum):
    """A task or timer that runs as long as its process. The values are labels of a metric."""

    HEARTBEAT = "heartbeat"
    CONTROL_CHANNEL = "control_channel"
    "Keeps a worker connected to the admin process."
    CONTROL_SENDER = "control_sender"
    "Sends what a worker has learned."
    CHANGE_STREAM = "change_stream"
    SHARED_READER = "shared_reader"
    SHARED_WRITER = "shared_writer"
    ROUTE_WRITER = "route_writer"
    FILE_WATCHER = "file_watcher"
    ROUTES_FILE_READER = "routes_file_reader"
    ROUTES_FILE_WATCHER = "routes_file_watcher"
    ROUTES_RECEIVER = "routes_receiver"
    "Applies a pushed set of routes in a worker."
    PAGES_READER = "pages_reader"
    PAGES_WATCHER = "pages_watcher"
    CERTIFICATE_READER = "certificate_reader"
    "Reads the directory of certificates again in a worker."
    CERTIFICATE_WATCHER = "certificate_watcher"
    "Makes that reader look at once when something has changed."
    CLIENT_CRL_WATCH = "client_crl_watch"
    "Tells of revocation lists that have ended in a worker."
    ISSUER = "issuer"
    "Orders certificates from an ACME authority."
    STATUS_SAMPLER = "status_sampler"
    "Reads the numbers for the status page."
    USAGE = "usage"
    "Reads what the admin process uses: CPU, memory, descriptors."
    LONG_EXCHANGES = "long_exchanges"
    "Writes lines to the access log while exchanges last (`access_log.long_after`)."
    OTHER = "other"
    "Any other task that ended with an error that nobody caught; it is not restarted."


def restart_pause(failures: int, rand: float) -> float:
    """Seconds until a task is restarted after `failures` failures in a row: exponential backoff, with a jitter of a
    quarter either way. `rand`: 0 to 1."""
    return min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(failures - 1, 20)) * (0.75 + rand / 2)


def is_logged(failures: int) -> bool:
    """Whether a timer logs this failure in a row: the first, the second, the fourth, the eighth…"""
    return failures & (failures - 1) == 0
