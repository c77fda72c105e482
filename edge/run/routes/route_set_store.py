"""The last good routes of a file on disk, so that a worker that starts knows what the others know.

    DIRECTORY/routes.table       written whole and renamed into place, by the admin process

It is there while the file of routes is broken or out of reach, and while there is no admin process that could say
what it said last.
"""

from pathlib import Path

import structlog

from edge.rules.route_sets.route_set import file_of, set_in
from edge.rules.route_sets.route_set_records import RouteSet
from edge.run.files.careful_files import TABLE, content_of, locked, opened, replace_file

log = structlog.get_logger("styx.routes")


class RouteSetStore:
    """The file in one directory. `first`: what is known when there is none yet."""

    def __init__(self, directory: Path, first: RouteSet | None = None) -> None:
        self._first = first
        self._path = directory

    def read(self, source: str) -> RouteSet | None:
        """The set that was read from this source last; None = none is known. A file that is of no use is told."""
        kept = self._kept()
        return next((routes for routes in (kept, self._first) if routes and routes.source == source), None)

    def write(self, routes: RouteSet) -> None:
        """Put it in the place of the one before. Raises OSError."""
        with opened(self._path) as directory, locked(directory):
            replace_file(directory, TABLE, file_of(routes))

    def _kept(self) -> RouteSet | None:
        try:
            with opened(self._path) as directory:
                data = content_of(directory, TABLE)
            return set_in(data) if data else None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", "") or str(error)
            log.error(
                "saved routes of the file unreadable",
                code="routes_table_unreadable",
                file=str(self._path / TABLE),
                error=why,
            )
            return None
