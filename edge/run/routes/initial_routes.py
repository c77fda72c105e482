"""Reads the initial routes of an edge from a pushed source, or the faults in it.

They are read with the rights of the user that workers become, like all that they rely on.
"""

import msgspec

from edge.rules.route_sets.route_file import LIMITS
from edge.rules.route_sets.route_set import HEADER, file_of, set_in
from edge.rules.route_sets.route_set_records import RouteSet
from edge.rules.settings import CoreApiSettings, Settings
from edge.rules.settings.file import SettingsError
from edge.run.files.as_user import bytes_from, user_exists
from edge.run.routes.pushed_sources import read_now

READ_TIMEOUT = 60.0
"Seconds to read a file: 100,000 hostnames take about five."
MOST_FAULTS = 1000
"Further ones are not reported."


def first_routes(settings: Settings) -> tuple[RouteSet | None, list[str]]:
    """The routes of the pushed source in these settings, or its faults; neither, when there is no pushed source."""
    source = settings.core_api
    if not source.is_pushed:
        return None, []
    try:
        # If that user does not exist, which is a fault of its own, the source is read all the same.
        user = settings.user if user_exists(settings.user) else ""
        read = bytes_from(user, lambda: _read(source), READ_TIMEOUT, 2 * LIMITS.bytes)
        if read.startswith(HEADER):
            return set_in(read), []
        return None, msgspec.json.decode(read, type=list[str])
    except (OSError, ValueError) as error:
        return None, [f"cannot read {source.location}: {getattr(error, 'strerror', None) or error}"]


def _read(settings: CoreApiSettings) -> bytes:
    """The set of routes, encoded as in its file on disk, or the faults in JSON. Raises OSError and ValueError."""
    try:
        routes = read_now(settings)
    except SettingsError as error:
        return msgspec.json.encode([str(fault) for fault in error.faults[:MOST_FAULTS]])
    assert routes is not None
    return b"".join(file_of(routes))
