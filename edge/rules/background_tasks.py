"""The long-lived tasks and timers of a process, and when one that has failed is started again."""

from enum import StrEnum
from typing import Final

HEARTBEAT_PERIOD: Final = 0.25
"Seconds between two heartbeats of a process."
SHORTEST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 30.0
"Seconds before a task is started again: doubled with each failure in a row."
HEALTHY_RUN: Final = 60.0
"A task that ran for so many seconds before it failed begins again with the shortest pause."


class BackgroundTask(StrEnum):
    """What runs for as long as its process does. The values are labels of a metric."""

    HEARTBEAT = "heartbeat"
    CONTROL_CHANNEL = "control_channel"
    "A worker stays connected to the admin process."
    CONTROL_SENDER = "control_sender"
    "A worker sends what it has learned."
    CHANGE_STREAM = "change_stream"
    SHARED_READER = "shared_reader"
    SHARED_WRITER = "shared_writer"
    ROUTE_WRITER = "route_writer"
    FILE_WATCHER = "file_watcher"
    ROUTES_FILE_READER = "routes_file_reader"
    ROUTES_FILE_WATCHER = "routes_file_watcher"
    ROUTES_RECEIVER = "routes_receiver"
    "A worker takes over the routes of a file."
    OTHER = "other"
    "Whatever else raised an error that nobody was there to catch: it was for once, and is not done again."


def restart_pause(failures: int, rand: float) -> float:
    """Seconds until a task is started again that has failed so many times in a row, spread by half."""
    return min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(failures - 1, 20)) * (0.75 + rand / 2)


def is_logged(failures: int) -> bool:
    """Whether this failure in a row of a timer is told: the first, the second, the fourth, the eighth…"""
    return failures & (failures - 1) == 0
