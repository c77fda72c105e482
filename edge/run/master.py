"""The master process: opens the sockets, starts and supervises the other processes, and carries out the operator's
commands. It serves no requests.

    signals ──┐
    channels ─┼─► _turn ─► reap, watch, replace children  also during a reload or an upgrade
    time ─────┘          (supervisor.py)
    SIGHUP  reload      SIGUSR1  reopen the logs      SIGUSR2  upgrade
    SIGTERM drain       SIGINT   drain without delay  a second one: end at once

It has no event loop and no threads, because it forks. A reload or an upgrade is one method that reads from top to
bottom and calls `_turn` while it waits, so that a worker that dies in the meantime is replaced as usual.
"""

import gc
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable

import structlog
from setproctitle import setproctitle

from edge import __version__
from edge.admin.health import Stage
from edge.admin.metrics import process_usage
from edge.admin.scoreboard import Scoreboard
from edge.rules.route_sets.route_set_records import RouteSet
from edge.rules.settings import Settings
from edge.rules.settings.diff import bound_to_admin_process
from edge.run import event_log
from edge.run.configuration_file import ConfigurationFile, ConfigurationText
from edge.run.control.control_messages import Command, CommandFinished, Drain, MasterEvents, Reopen
from edge.run.processes import stacks
from edge.run.processes.fd_limit import raise_open_files
from edge.run.processes.fork import HANDLED
from edge.run.processes.process_spawner import Kind, ProcessSpawner
from edge.run.processes.supervisor import EXIT_TIMEOUT, Supervisor
from edge.run.processes.upgrade import READY_TIMEOUT, Successor, report_serving
from edge.run.recent_events import EventRelay, RecentEvents
from edge.run.reload import ActiveConfiguration, start_accepting, worker_count
from edge.run.sockets.listening_sockets import Sockets, Spare, open_sockets
from edge.run.sockets.socket_handover import SocketHandover
from edge.run.sockets.systemd import Systemd

log = structlog.get_logger("styx.master")

MOST_COMMANDS = 16
"Commands that may wait while one is carried out."


class CannotServe(Exception):
    """styx cannot start; the text says why."""


class Master:
    """The master process. `run` is its whole life."""

    def __init__(
        self,
        file: ConfigurationFile,
        settings: Settings,
        systemd: Systemd,
        routes: RouteSet | None = None,
        text: str = "",
    ) -> None:
        """`routes`: the routes of a pushed source, for the first children. `text`: what `file` had in it."""
        self._systemd = systemd
        board = Scoreboard()
        self._spawner = ProcessSpawner(board, routes)
        self._spawner.configuration = ConfigurationText(file.path, text)
        self._active = ActiveConfiguration(file, settings, self._spawner, systemd, wait=self._await)
        self._recent_events = RecentEvents("master")
        self._event_relay = EventRelay(self._recent_events)
        self._row = board.row(0)
        self._usage_due = 0.0
        self._row.started(time.time())
        self._supervisor: Supervisor
        self._commands: deque[Command] = deque()
        "Commands of the operator. Number 0 = sent by a signal: no result is sent."
        self._stops: list[signal.Signals] = []
        self._wake, self._waker = os.pipe()
        self._successor: Successor | None = None
        self._handover: SocketHandover | None = None

    @property
    def _settings(self) -> Settings:
        return self._active.settings

    @property
    def _sockets(self) -> Sockets:
        return self._active.sockets

    # life cycle

    def run(self, spare: Spare, predecessor: int | None) -> int:
        """Serve until a signal stops it; returns the exit status.

        `predecessor`: the descriptor over which to report to the previous master that this one serves. Raises
        CannotServe.
        """
        setproctitle("styx: master")
        event_log.name_process("master")
        self._recent_events.install()
        stacks.write_on_signal()
        self._listen_to_signals()
        self._open(spare)
        raise_open_files(self._settings)
        try:
            self._spawner.routes = self._active.routes.prepare(self._settings)
        except OSError as error:
            raise CannotServe(error.strerror) from error
        gc.collect()
        gc.freeze()
        try:
            self._start_all()
        except CannotServe:
            # Some workers may accept already, beside the workers of the previous master.
            self._end_all(self._settings.drain.timeout)
            raise
        if not self._stops:
            self._serving(predecessor)
        while not self._stops:
            if self._commands:
                if self._execute(self._commands.popleft()):
                    return self._leave()
            else:
                self._turn(time.monotonic() + self._tick)
        return self._drain()

    def _listen_to_signals(self) -> None:
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for number in HANDLED:
            signal.signal(number, lambda *_: None)

    def _open(self, spare: Spare) -> None:
        workers = worker_count(self._settings)
        try:
            self._active.sockets = open_sockets(self._settings, workers, spare)
        except OSError as error:
            raise CannotServe(error.strerror or str(error)) from error
        for address in spare.close():
            log.warning(
                "inherited socket without a listener closed", code="socket_without_listener", address=address
            )
        self._supervisor = Supervisor(self._spawner, self._row, self._settings, self._sockets, workers)
        self._active.supervisor = self._supervisor

    def _start_all(self) -> None:
        started = self._supervisor.start_all()
        start_accepting(self._supervisor, started, self._await)
        for child in started:
            if not (child.accepting or (child.ready and child.kind is Kind.ADMIN)) and not self._stops:
                raise CannotServe(child.why or f"the {child.title} did not become ready: {child.how_it_ended}")

    def _serving(self, predecessor: int | None) -> None:
        self._spawner.first_routes = None  # from now on children find newer ones on disk
        self._supervisor.send_stage(Stage.READY, "")
        where = [str(held.address) for held in self._sockets.listeners]
        workers = len(self._supervisor.workers)
        admin = [str(held.address) for held in self._sockets.of_admin]
        log.info("serving", code="serving", listeners=where, admin=admin, workers=workers)
        self._systemd.ready(self._supervisor.status)
        if predecessor is not None:
            report_serving(predecessor)

    # one turn

    @property
    def _tick(self) -> float:
        """Longest sleep in seconds: a stalled worker is noticed within it."""
        watched = self._systemd.watchdog / 2 if self._systemd.watchdog else 1.0
        return min(1.0, self._settings.watchdog / 4, watched)

    def _await(self, done: Callable[[], bool], time_limit: float, *, stops: int = 1) -> bool:
        """Run turns until `done()` holds, for at most `time_limit` seconds, or until `stops` signals to stop have
        come. Returns whether it holds."""
        deadline = time.monotonic() + time_limit
        while not done():
            if time.monotonic() >= deadline or len(self._stops) >= stops:
                return False
            self._turn(min(deadline, time.monotonic() + self._tick))
        return True

    def _turn(self, until: float) -> None:
        """Wait for the next event, until this time at most, and handle it; then supervise the children."""
        self._send_events()
        supervisor = self._supervisor
        channels = {child.channel.sock.fileno(): child for child in supervisor.living if not child.channel.ended}
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        for descriptor in channels:
            poll.register(descriptor, select.POLLIN)
        if self._handover is not None and not self._handover.serves:
            poll.register(self._handover, select.POLLIN)
        wait = max(0.0, min(until, supervisor.next_start) - time.monotonic())
        for descriptor, _ in poll.poll(wait * 1000 + 1):
            if descriptor == self._wake:
                self._signalled(os.read(self._wake, 1024))
            elif descriptor in channels:
                self._enqueue(supervisor.received(channels[descriptor]))
            elif self._handover is not None:
                self._handover.step()
        for pid, status in supervisor.tick(time.monotonic()):
            if self._successor is not None and pid == self._successor.pid:
                self._successor.status = status
        event_log.expire_override(time.monotonic())
        self._systemd.alive()
        if (now := time.monotonic()) >= self._usage_due:
            self._usage_due = now + process_usage.PERIOD
            self._row.publish_usage(process_usage.read_usage())

    def _send_events(self) -> None:
        """Send the admin process the events that it has not been sent."""
        admin = self._supervisor.admin
        if admin is not None and admin.ready and (events := self._event_relay.take_new(admin.pid)):
            admin.send(MasterEvents(events))

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            match number:
                case signal.SIGTERM | signal.SIGINT:
                    self._stops.append(signal.Signals(number))
                case signal.SIGHUP:
                    self._enqueue([Command(0, "reload")])
                case signal.SIGUSR2:
                    self._enqueue([Command(0, "upgrade")])
                case signal.SIGUSR1:
                    log.info("access log reopened", code="logs_reopened")
                    self._supervisor.send_all(Reopen())

    # commands of the operator

    def _enqueue(self, commands: list[Command]) -> None:
        for command in commands:
            if len(self._commands) < MOST_COMMANDS:
                self._commands.append(command)
            elif self._supervisor.admin is not None and command.number:
                self._supervisor.admin.send(
                    CommandFinished(command.number, False, [f"{MOST_COMMANDS} orders wait already"])
                )

    def _execute(self, command: Command) -> bool:
        """Carry out a command and report its result. Returns whether another master has taken over."""
        taken_over, admin, before = False, self._supervisor.admin, self._bound_to_admin_process
        if command.what == "reload":
            done, words = self._carry_out(self._active.reload)
            self._row.reloaded(done, time.time())
            if done:
                log.info("configuration reloaded", code="reloaded", what=words)
            else:
                log.error("configuration not reloaded", code="reload_failed", what=words)
        else:
            done, words = taken_over, words = self._carry_out(self._upgrade)
            self._row.upgraded(done)
            if done:
                log.info("upgrade completed", code="upgraded", what=words)
            else:
                log.error("upgrade failed", code="upgrade_failed", what=words)
        self._send_events()  # who has the result finds the event
        if admin is not None and command.number:
            admin.send(CommandFinished(command.number, done, words))
        if before != self._bound_to_admin_process:
            self._supervisor.replace_admin()
        return taken_over

    @property
    def _bound_to_admin_process(self) -> tuple[object, ...]:
        """Settings and sockets that an admin process cannot exchange: when one of them changes, it is replaced."""
        sockets = [sock for held in self._sockets.of_admin for sock in held.sockets]
        return *bound_to_admin_process(self._settings), sockets

    def _carry_out(self, command: Callable[[], tuple[bool, list[str]]]) -> tuple[bool, list[str]]:
        """Run this and return its result. An unexpected exception is logged and reported, and the edge serves
        on."""
        try:
            return command()
        except Exception as error:
            log.exception("master command failed", code="command_failed")
            self._supervisor.abandon_replacement(self._settings.drain.timeout)
            return False, [f"{type(error).__name__}: {error}"]

    def _upgrade(self) -> tuple[bool, list[str]]:
        """Start the installed version with our sockets. This process keeps serving if it does not report that it is
        ready."""
        if os.getpid() == 1:
            return False, ["process 1 of a container cannot be replaced in it: replace the container"]
        self._systemd.reloading()
        try:
            self._successor = successor = Successor.start(self._sockets, self._systemd, self._spawner.tickets)
        except OSError as error:
            return False, [f"cannot start {sys.executable}: {error}"]
        self._await(lambda: successor.ready or successor.ended, READY_TIMEOUT)
        if successor.ready:
            self._systemd.replaced_by(successor.pid)
            return True, [f"process {successor.pid} serves now; this one, {__version__}, drains"]
        ended = successor.ended
        successor.give_up()
        self._systemd.ready(self._supervisor.status)
        how = "ended before it was ready" if ended else f"was not ready within {READY_TIMEOUT:g} s"
        return False, [f"the new version {how} (see its log); {__version__} keeps serving"]

    # draining

    def _leave(self) -> int:
        """Drain after another master has taken over our sockets, and end."""
        setproctitle("styx: master (leaving)")
        time_limit = self._settings.drain.timeout
        self._supervisor.stop_workers(Drain(time_limit, time_limit))
        self._supervisor.stop_admin()
        self._await(lambda: not self._supervisor.anybody_leaves, time_limit + EXIT_TIMEOUT)
        self._end_all()
        return 0

    def _drain(self) -> int:
        """Drain after a signal to stop, and end. Another edge that starts meanwhile takes over the sockets."""
        supervisor, drain = self._supervisor, self._settings.drain
        supervisor.send_stage(Stage.DRAINING, "told to stop")
        delay = 0.0 if self._stops[0] is signal.SIGINT else drain.delay
        log.info("stopping", code="stopping", signal=self._stops[0].name, delay=delay, timeout=drain.timeout)
        self._systemd.stopping("draining")
        self._handover = handover = SocketHandover.wait_for(self._sockets)
        self._await(lambda: handover is not None and handover.serves, delay, stops=2)
        self._leave_files_to(handover)
        if handover is not None and handover.serves:
            log.info("listening sockets taken over by another edge", code="sockets_taken_over")
            supervisor.stop_admin()
        self._sockets.close_listeners()
        workers = supervisor.stop_workers(Drain(drain.timeout, drain.idle))
        self._await(lambda: not any(child.alive for child in workers), drain.timeout + EXIT_TIMEOUT, stops=2)
        if any(child.alive for child in workers):
            log.warning(
                "drain cut short",
                code="drain_cut_short",
                reason="a second signal" if len(self._stops) > 1 else "drain.timeout is over",
            )
        self._end_all()
        self._leave_files_to(handover)  # it may have come during the drain
        self._sockets.close_all_but()
        self._active.routes.remove_temporary()
        for number in HANDLED:  # Python removes its handlers before it ends: one more signal would kill us
            signal.signal(number, signal.SIG_IGN)
        log.info("stopped", code="stopped")
        return 0

    def _leave_files_to(self, handover: SocketHandover | None) -> None:
        """Leave the files of Unix sockets to another edge, also to one that does not serve yet: it would serve
        where nobody connects."""
        if handover is not None and handover.is_under_way:
            self._sockets.leave_files()

    def _end_all(self, time_limit: float = 0.0) -> None:
        """Have all remaining children end within `time_limit` seconds, then kill them."""
        left = self._supervisor.stop_all(Drain(time_limit, time_limit))
        stops = len(self._stops) + 1
        self._await(lambda: not any(child.alive for child in left), time_limit + 2.0, stops=stops)
        for child in left:
            child.signal(signal.SIGKILL)
        self._await(lambda: not any(child.alive for child in left), 2.0, stops=stops + 1)
