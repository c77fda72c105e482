"""The registry of the platform: sites, environments, hostnames and containers, in SQLite.

The registry stores the wanted state (the goals of environments) and the state that the platform assumes (the
containers). Each change of an environment gets the next number of one sequence as its `generation`, and after it is
stored, `changed` is called; so no change is silent. The sequence is common to all environments, so generations grow
even when an environment is deleted and created again.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import msgspec

from edge.platform.containers.container import Recipe, Role, State

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
Hostname = Annotated[
    str, msgspec.Meta(max_length=253, pattern=r"^[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*$")
]
Goal = Annotated[int, msgspec.Meta(ge=0, le=100)]


class UnknownName(LookupError):
    """No such environment or container; the text names the request that lists those that exist."""


class NameTaken(ValueError):
    """The environment or one of its hostnames exists already."""


class EnvironmentSpec(Recipe, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new environment, as the management API takes it."""

    site: Name
    environment: Name = "live"
    hostnames: tuple[Hostname, ...] = ()
    "Empty = ENVIRONMENT-SITE.localhost, which browsers resolve to this machine."
    containers: Goal = 1
    "Active containers wanted."
    standby: Goal = 0
    "Standby containers wanted."
    maintenance: bool = False
    redirect: str | None = None


class StoredEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """One environment as stored."""

    site: str
    environment: str
    hostnames: tuple[str, ...]
    containers: int
    standby: int
    generation: int
    maintenance: bool
    redirect: str | None
    recipe: Recipe


class ContainerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One container, in the state that the platform assumes."""

    id: str
    site: str
    environment: str
    address: str
    port: int
    server: str
    role: Role
    state: State


SCHEMA = """
CREATE TABLE IF NOT EXISTS sites (site TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS environments (
    site TEXT NOT NULL REFERENCES sites, environment TEXT NOT NULL, containers INTEGER NOT NULL,
    standby INTEGER NOT NULL, generation INTEGER NOT NULL, maintenance INTEGER NOT NULL, redirect TEXT,
    recipe TEXT NOT NULL, PRIMARY KEY (site, environment));
CREATE TABLE IF NOT EXISTS hostnames (
    hostname TEXT PRIMARY KEY, site TEXT NOT NULL, environment TEXT NOT NULL,
    FOREIGN KEY (site, environment) REFERENCES environments ON DELETE CASCADE);
CREATE TABLE IF NOT EXISTS containers (
    id TEXT PRIMARY KEY, site TEXT NOT NULL, environment TEXT NOT NULL, address TEXT NOT NULL,
    port INTEGER NOT NULL, server TEXT NOT NULL, role TEXT NOT NULL, state TEXT NOT NULL,
    FOREIGN KEY (site, environment) REFERENCES environments ON DELETE CASCADE);
CREATE INDEX IF NOT EXISTS containers_of ON containers (site, environment);
CREATE INDEX IF NOT EXISTS hostnames_of ON hostnames (site, environment);
CREATE TABLE IF NOT EXISTS sequence (generation INTEGER NOT NULL);
"""


class Registry:
    """The tables. `changed(site, environment, hostnames)` is called after each stored change.

    `hostnames` are those that were added or removed, and empty for all other changes.
    `first_generation` is where a new database starts counting.
    """

    def __init__(
        self, path: str, changed: Callable[[str, str, tuple[str, ...]], None], *, first_generation: int = 1
    ) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._changed = changed
        self._db.executescript(SCHEMA)
        self._db.execute("PRAGMA foreign_keys = ON")
        if self._db.execute("SELECT 1 FROM sequence").fetchone() is None:
            self._db.execute("INSERT INTO sequence VALUES (?)", (first_generation - 1,))

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _change(self, site: str, environment: str, *hostnames: str) -> Iterator[None]:
        """A transaction that changes an environment and its generation; calls `changed` after the commit."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("UPDATE sequence SET generation = generation + 1")
            self._db.execute(
                "UPDATE environments SET generation = (SELECT generation FROM sequence)"
                " WHERE site = ? AND environment = ?",
                (site, environment),
            )
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._changed(site, environment, hostnames)

    # -- environments --

    def add_environment(self, spec: EnvironmentSpec) -> StoredEnvironment:
        """Store a new environment. Raises NameTaken."""
        site, name = spec.site, spec.environment
        hostnames = spec.hostnames or (f"{name}-{site}.localhost",)
        recipe = msgspec.convert(spec, Recipe, from_attributes=True)
        try:
            with self._change(site, name, *hostnames):
                self._db.execute("INSERT OR IGNORE INTO sites VALUES (?)", (site,))
                self._db.execute(
                    "INSERT INTO environments VALUES (?, ?, ?, ?, 0, ?, ?, ?)",
                    (
                        site,
                        name,
                        spec.containers,
                        spec.standby,
                        spec.maintenance,
                        spec.redirect,
                        msgspec.json.encode(recipe).decode(),
                    ),
                )
                rows = [(hostname, site, name) for hostname in hostnames]
                self._db.executemany("INSERT INTO hostnames VALUES (?, ?, ?)", rows)
        except sqlite3.IntegrityError:
            raise NameTaken(
                f"environment {name} of site {site}, or one of the hostnames {', '.join(hostnames)}, exists "
                "already: choose another name or delete the old environment first"
            ) from None
        return self.environment(site, name)

    def environment(self, site: str, name: str) -> StoredEnvironment:
        """The environment of this name. Raises UnknownName."""
        key = (site, name)
        row = self._db.execute("SELECT * FROM environments WHERE site = ? AND environment = ?", key).fetchone()
        if row is None:
            raise UnknownName(
                f"site {site} has no environment {name}: GET /v1/platform/environments lists what there is"
            )
        found = self._db.execute(
            "SELECT hostname FROM hostnames WHERE site = ? AND environment = ? ORDER BY rowid", key
        )
        return StoredEnvironment(
            site=site,
            environment=name,
            hostnames=tuple(line["hostname"] for line in found),
            containers=row["containers"],
            standby=row["standby"],
            generation=row["generation"],
            maintenance=bool(row["maintenance"]),
            redirect=row["redirect"],
            recipe=msgspec.json.decode(row["recipe"], type=Recipe),
        )

    def environments(self) -> list[StoredEnvironment]:
        keys = self._db.execute("SELECT site, environment FROM environments ORDER BY rowid").fetchall()
        return [self.environment(*key) for key in keys]

    def environment_of(self, hostname: str) -> StoredEnvironment | None:
        row = self._db.execute("SELECT site, environment FROM hostnames WHERE hostname = ?", (hostname,)).fetchone()
        return self.environment(*row) if row else None

    def set_goal(self, site: str, name: str, *, containers: int | None = None, standby: int | None = None) -> None:
        """Change the wanted numbers of containers; None leaves one as it is. Raises UnknownName."""
        self.environment(site, name)
        with self._change(site, name):
            self._db.execute(
                "UPDATE environments SET containers = coalesce(?, containers), standby = coalesce(?, standby)"
                " WHERE site = ? AND environment = ?",
                (containers, standby, site, name),
            )

    def set_service(self, site: str, name: str, *, maintenance: bool, redirect: str | None) -> None:
        """Change maintenance and redirect. Raises UnknownName."""
        self.environment(site, name)
        with self._change(site, name):
            self._db.execute(
                "UPDATE environments SET maintenance = ?, redirect = ? WHERE site = ? AND environment = ?",
                (maintenance, redirect, site, name),
            )

    def remove_environment(self, site: str, name: str) -> None:
        """Delete an environment with its hostnames and containers. Raises UnknownName."""
        known = self.environment(site, name)
        with self._change(site, name, *known.hostnames):
            self._db.execute("DELETE FROM environments WHERE site = ? AND environment = ?", (site, name))

    # -- containers --

    def add_container(self, row: ContainerRow) -> None:
        with self._change(row.site, row.environment):
            self._db.execute("INSERT INTO containers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(row))

    def container(self, container_id: str) -> ContainerRow:
        """The record of a container. Raises UnknownName."""
        row = self._db.execute("SELECT * FROM containers WHERE id = ?", (container_id,)).fetchone()
        if row is None:
            raise UnknownName(
                f"there is no container {container_id}: GET /v1/platform/environments lists what there is"
            )
        return ContainerRow(**row)

    def containers(self, site: str, name: str) -> list[ContainerRow]:
        """The containers of an environment, in the order in which they were added."""
        found = self._db.execute(
            "SELECT * FROM containers WHERE site = ? AND environment = ? ORDER BY rowid", (site, name)
        )
        return [ContainerRow(**row) for row in found]

    def containers_per_server(self) -> dict[str, int]:
        return dict(self._db.execute("SELECT server, count(*) FROM containers GROUP BY server").fetchall())

    def set_state(self, container_id: str, state: State) -> None:
        """Change the state of a container; the same state again is no change. Raises UnknownName."""
        row = self.container(container_id)
        if row.state == state:
            return
        with self._change(row.site, row.environment):
            self._db.execute("UPDATE containers SET state = ? WHERE id = ?", (state, container_id))

    def relocate(self, container_id: str, *, port: int, server: str) -> None:
        """Change port and server of a container. Raises UnknownName."""
        row = self.container(container_id)
        with self._change(row.site, row.environment):
            self._db.execute(
                "UPDATE containers SET port = ?, server = ? WHERE id = ?", (port, server, container_id)
            )

    def remove_container(self, container_id: str) -> None:
        """Delete the record of a container. Raises UnknownName."""
        row = self.container(container_id)
        with self._change(row.site, row.environment):
            self._db.execute("DELETE FROM containers WHERE id = ?", (container_id,))

    def remove_all_containers(self) -> None:
        """Delete all containers, at the start of the platform: those of the last run have ended."""
        for row in self._db.execute("SELECT id FROM containers").fetchall():
            self.remove_container(row["id"])
