"""Reload: the master reads its configuration again and puts it in force, or leaves everything as it is.

read, check ─► what differs ─┬─ hot settings only ─► swap: the processes apply the new values
                             └─ a cold one ────────► replace: new workers are ready before the old ones drain
"""

import os
from collections.abc import Callable

from edge.rules.settings import Settings
from edge.rules.settings.diff import changes
from edge.run import event_log
from edge.run.configuration_file import BadConfiguration, ConfigurationFile, ConfigurationText
from edge.run.control.control_messages import ApplySettings, Drain, RoutesTaken, TakeRoutes
from edge.run.preflight import Finding, as_faults, pages_not_used, preflight
from edge.run.processes.fd_limit import warn_of_few_files
from edge.run.processes.process_spawner import Child, Kind, ProcessSpawner
from edge.run.processes.supervisor import START_TIMEOUT, Supervisor
from edge.run.routes.route_directory import RouteDirectories
from edge.run.sockets.listening_sockets import Sockets, open_sockets, spare_of
from edge.run.sockets.systemd import Systemd

APPLY_TIMEOUT = 5.0
"Seconds for the processes to apply new settings."
READ_ROUTES_TIMEOUT = 60.0
"Seconds for the admin process to read the file of routes: 100,000 hostnames take about ten."

Result = tuple[bool, list[str]]
"Whether a command was carried out; and line by line what has changed, or why it was not."
Wait = Callable[[Callable[[], bool], float], bool]
"Runs turns of the master until a condition holds, or for so many seconds. Returns whether it holds."


class ActiveConfiguration:
    """The configuration in force: its settings, the sockets that were opened for it, and how the next one replaces
    it."""

    def __init__(
        self, file: ConfigurationFile, settings: Settings, spawner: ProcessSpawner, systemd: Systemd, *, wait: Wait
    ) -> None:
        self._file = file
        self.settings = settings
        self.sockets: Sockets
        self.supervisor: Supervisor
        self.routes = RouteDirectories(os.environ)
        self._spawner = spawner
        self._systemd = systemd
        self._wait = wait
        self._number = 0
        "Number of the last message that processes must acknowledge."

    def reload(self) -> Result:
        """Read the file again, and put its settings in force."""
        try:
            text, settings = self._file.read()
        except BadConfiguration as error:
            return False, str(error).splitlines()
        # A source of routes that is in use is read by the admin process.
        in_use = settings.core_api.is_pushed and settings.core_api.url == self.settings.core_api.url
        if faults := preflight(self._file.path, text, settings, spare_of(self.sockets), routes=not in_use):
            return False, faults
        routes: list[str] = []
        if in_use:
            done, routes = self._reload_routes()
            if not done:
                return False, as_faults(self._file.path, text, [Finding("core_api.url", line) for line in routes])
        self._file.warn_of_former_names(text)
        warnings = as_faults(self._file.path, text, pages_not_used(settings))
        differences = changes(self.settings, settings)
        self._systemd.reloading()
        swap = all(change.hot for change in differences)
        done, words = self._swap(text, settings) if swap else self._replace_workers(text, settings)
        self._systemd.ready(self.supervisor.status)
        if not done:
            return False, words
        changed = [*map(str, differences), *routes, *words] or ["nothing changed"]
        return True, [*changed, *(f"warning: {warning}" for warning in warnings)]

    def _reload_routes(self) -> Result:
        """Have the admin process publish the present routes of the source."""
        self._number = number = self._number + 1
        admin = self.supervisor.admin
        if admin is None or not admin.send(TakeRoutes(number)):
            return False, ["there is no admin process that could read the file of routes"]

        def result() -> RoutesTaken | None:
            taken = admin.routes_taken
            return taken if taken is not None and taken.number == number else None

        self._wait(lambda: result() is not None or not admin.alive, READ_ROUTES_TIMEOUT)
        taken = result()
        if taken is None:
            return False, ["the admin process did not read the file of routes in time"]
        return taken.done, taken.words

    def _swap(self, text: str, settings: Settings) -> Result:
        """Hot settings only: all processes stay, and apply the new values."""
        self._number = number = self._number + 1
        processes = self.supervisor.staying
        self._put_in_force(text, settings, self.sockets)
        self._wait(
            lambda: all(child.settings_applied == number or not child.alive for child in processes), APPLY_TIMEOUT
        )
        # One that died in the meantime has a successor with the new settings.
        silent = [child.title for child in processes if child.alive and child.settings_applied != number]
        faults = [f"{child.title}: {child.why}" for child in processes if child.alive and child.why]
        return not faults, [*faults, *(f"{title} did not reply" for title in silent)]

    def _put_in_force(self, text: str, settings: Settings, sockets: Sockets) -> None:
        """Apply these settings in the master, and send them to the processes that stay."""
        if settings.limits.connections != self.settings.limits.connections:
            warn_of_few_files(settings)
        self.settings, self.sockets = settings, sockets
        self._spawner.configuration = ConfigurationText(self._file.path, text)
        self.supervisor.reconfigure(settings, sockets)
        event_log.configure(settings.log)
        for child in self.supervisor.staying:
            child.send(ApplySettings(text, self._file.path, self._number))

    def _replace_workers(self, text: str, settings: Settings) -> Result:
        """A cold setting has changed: every new worker is ready before the old ones drain."""
        supervisor, before, count = self.supervisor, self.sockets, worker_count(settings)
        routes_before = self._spawner.routes
        try:
            routes = self.routes.prepare(settings)
            sockets = open_sockets(settings, count, spare_of(before))
        except OSError as error:
            return False, [error.strerror or str(error)]
        self._spawner.routes = routes
        if faults := self._start_workers(settings, sockets, count):
            supervisor.abandon_replacement(self.settings.drain.timeout)
            sockets.close_all_but(before)
            self._spawner.routes = routes_before
            return False, faults
        old = supervisor.replace_workers(settings, sockets)
        timeout = settings.drain.timeout
        supervisor.stop(old, Drain(timeout, timeout))
        self._put_in_force(text, settings, sockets)
        before.close_all_but(sockets)
        return True, [f"{count} new workers serve; the {len(old)} old ones finish what they have"]

    def _start_workers(self, settings: Settings, sockets: Sockets, count: int) -> list[str]:
        """Start workers beside those that serve. Returns why they cannot replace them, if they cannot."""
        try:
            coming = self.supervisor.start_beside(settings, sockets, count)
        except OSError as error:
            return [f"cannot start a process: {error}"]
        if start_accepting(self.supervisor, coming, self._wait):
            return []
        return [child.why or f"new {child.title} did not become ready" for child in coming if not child.accepting]


def start_accepting(supervisor: Supervisor, started: list[Child], wait: Wait) -> bool:
    """Have the workers among these processes accept when all of them are ready. Returns whether they do."""
    workers = [child for child in started if child.kind is Kind.WORKER]
    wait(lambda: all(child.ready or not child.alive for child in started), START_TIMEOUT)
    if all(child.ready for child in started):
        supervisor.start_accepting(workers)
        wait(lambda: all(child.accepting or not child.alive for child in workers), START_TIMEOUT)
    return all(child.accepting for child in workers)


def worker_count(settings: Settings) -> int:
    """The number of workers for these settings on this machine."""
    return settings.workers or len(os.sched_getaffinity(0))
