"""Saves the last good routes of a pushed source, so that a worker that starts knows what the others know.

    DIRECTORY/routes.table       written completely and renamed into place, by the admin process

It serves while the source is broken or out of reach, and while there is no admin process that could announce the
routes.
"""

from pathlib import Path

import structlog

from edge.rules.route_sets.route_set import file_of, set_in
from edge.rules.route_sets.route_set_records import RouteSet
from edge.run.files.careful_files import TABLE, content_of, locked, opened, replace_file

log = structlog.get_logger("styx.routes")


class RouteSetStore:
    """The saved routes in one directory. `first`: the routes to use while there is no file."""

    def __init__(self, directory: Path, first: RouteSet | None = None) -> None:
        self._first = first
        self._path = directory

    def read(self, source: str) -> RouteSet | None:
        """The set that was read from this source last; None = none is known. A file that cannot be used is
        logged."""
        saved = self._saved()
        return next((routes for routes in (saved, self._first) if routes and routes.source == source), None)

    def write(self, routes: RouteSet) -> None:
        """Replace the saved set. Raises OSError."""
        with opened(self._path) as directory, locked(directory):
            replace_file(directory, TABLE, file_of(routes))

    def _saved(self) -> RouteSet | None:
        try:
            with opened(self._path) as directory:
                data = content_of(directory, TABLE)
            return set_in(data) if data else None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", "") or str(error)
            log.error(
                "saved routes of the routes file unreadable",
                code="routes_table_unreadable",
                file=str(self._path / TABLE),
                error=why,
            )
            return None
