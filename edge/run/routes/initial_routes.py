"""The routes that an edge begins with, when they come from a source that is pushed; and what is wrong with it.

Read with the rights of the user that workers become, as whatever else they rely on.
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
"Seconds to read a file: 100,000 hostnames take some five."
MOST_FAULTS = 1000
"More are not told."


def first_routes(settings: Settings) -> tuple[RouteSet | None, list[str]]:
    """The routes of the source that these settings name, or what is wrong with it; neither, when they name none."""
    source = settings.core_api
    if not source.is_pushed:
        return None, []
    try:
        # Without that user, which is a fault of its own, it is read all the same.
        user = settings.user if user_exists(settings.user) else ""
        read = bytes_from(user, lambda: _read(source), READ_TIMEOUT, 2 * LIMITS.bytes)
        if read.startswith(HEADER):
            return set_in(read), []
        return None, msgspec.json.decode(read, type=list[str])
    except (OSError, ValueError) as error:
        return None, [f"cannot read {source.location}: {getattr(error, 'strerror', None) or error}"]


def _read(settings: CoreApiSettings) -> bytes:
    """A set of routes as in a file, or faults in JSON. Raises OSError and ValueError."""
    try:
        routes = read_now(settings)
    except SettingsError as error:
        return msgspec.json.encode([str(fault) for fault in error.faults[:MOST_FAULTS]])
    assert routes is not None
    return b"".join(file_of(routes))
