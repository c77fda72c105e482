"""The routes that an edge begins with, when they come from a file; and what is wrong with the file.

Read with the rights of the user that workers become, as whatever else they rely on.
"""

import time
from pathlib import Path

import msgspec

from edge.rules.route_file import LIMITS, destinations_in
from edge.rules.route_set import HEADER, NO_ROUTES, digest_of, file_of, route_set, set_in
from edge.rules.route_set_records import RouteSet
from edge.rules.settings import Settings
from edge.rules.settings_file import SettingsError
from edge.run.as_user import bytes_from, user_exists
from edge.run.route_file_look import without_garbage_collection

PATIENCE = 60.0
"Seconds to read the file: 100,000 hostnames take some five."
MOST_FAULTS = 1000
"More are not told."


def first_routes(settings: Settings) -> tuple[RouteSet | None, list[str]]:
    """The routes of the file that these settings name, or what is wrong with it; neither, when they name none."""
    path = settings.core_api.file
    if path is None:
        return None, []
    try:
        # Without that user, which is a fault of its own, it is read all the same.
        user = settings.user if user_exists(settings.user) else ""
        read = bytes_from(user, lambda: _read(path), PATIENCE, 2 * LIMITS.bytes)
        if read.startswith(HEADER):
            return set_in(read), []
        return None, msgspec.json.decode(read, type=list[str])
    except (OSError, ValueError) as error:
        return None, [f"cannot read {path}: {getattr(error, 'strerror', None) or error}"]


def _read(path: str) -> bytes:
    """A set of routes as in a file, or faults in JSON. Raises OSError and UnicodeDecodeError."""
    data = Path(path).read_bytes()
    try:
        with without_garbage_collection():
            said = destinations_in(data.decode(), name=path, may_be_empty=False)
            version = time.time_ns() // 1000
            routes, _ = route_set(said, NO_ROUTES, version=version, source=path, digest=digest_of(data))
    except SettingsError as error:
        return msgspec.json.encode([str(fault) for fault in error.faults[:MOST_FAULTS]])
    return b"".join(file_of(routes))
