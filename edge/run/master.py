"""The master: opens the sockets, starts the others, watches them, does what the operator wants. It serves nobody.

    signals ─┐
    lines ───┼─► _turn ─► _reap, _watch, _replace        whatever else goes on
    time ────┘
    SIGHUP  reload      SIGUSR1  reopen the logs      SIGUSR2  upgrade
    SIGTERM drain       SIGINT   drain without delay  again: at once

No event loop and no threads: it forks. A reload or an upgrade is a method that reads from top to bottom and lets
`_turn` run while it waits, so that a worker that dies meanwhile is replaced as ever.
"""

import gc
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import structlog
from setproctitle import setproctitle

from edge import __version__
from edge.admin.board import Board
from edge.admin.health import Stage
from edge.rules.reloading import changes
from edge.rules.settings import Settings
from edge.rules.settings_file import SettingsError, parse
from edge.run import event_log
from edge.run.children import ABORTED, Child, Kind, Nursery
from edge.run.open_files import raise_open_files
from edge.run.orders import Drain, Failed, Granted, Obey, Obeyed, Ready, Reopen, StageIs, Wish
from edge.run.sockets import Sockets, Spare, open_sockets, spare_of
from edge.run.systemd import Systemd
from edge.run.tokens import CannotRead, read_token
from edge.run.upgrading import READY_PATIENCE, Successor

log = structlog.get_logger("styx.master")

START_PATIENCE = 30.0
"Seconds until a new child must be ready."
OBEY_PATIENCE = 5.0
"Seconds until a child must have taken new settings."
EXIT_PATIENCE = 5.0
"Seconds beyond `drain.timeout` after which a worker that should have ended is killed."
HEALTHY_LIFE = 10.0
"A child that lived for so long did not die of what it was started with: it is replaced at once."
PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
"Seconds before the next try, after so many early deaths in a row."


class CannotServe(Exception):
    """styx cannot start; the text says what is in the way."""


class ConfigurationFile(NamedTuple):
    """Where the settings come from."""

    path: str

    def read(self) -> tuple[str, Settings]:
        """Raises CannotRead with every fault on a line of its own."""
        try:
            text = Path(self.path).read_text()
            settings = parse(text, name=self.path, environ=os.environ)
        except (OSError, UnicodeDecodeError) as error:
            raise CannotRead(f"cannot read {self.path}: {getattr(error, 'strerror', None) or error}") from error
        except SettingsError as error:
            raise CannotRead("\n".join(str(fault) for fault in error.faults)) from error
        return text, settings


class Place:
    """A slot for a worker, or the place of the admin process: somebody should always be there."""

    def __init__(self, kind: Kind, slot: int) -> None:
        self.kind = kind
        self.slot = slot
        self.child: Child | None = None
        self.early_deaths = 0
        self.due = 0.0
        "When the next one may be started."


class Master:
    """See the module."""

    def __init__(self, file: ConfigurationFile, text: str, settings: Settings, systemd: Systemd) -> None:
        self._file = file
        self._text = text
        self._settings = settings
        self._systemd = systemd
        self._stage = (Stage.STARTING, "workers are not ready yet")
        self._sockets: Sockets
        self._board = Board()
        self._row = self._board.row(0)
        self._nursery = Nursery(self._board)
        self._places = [Place(Kind.WORKER, slot) for slot in range(worker_count(settings))]
        self._admin = Place(Kind.ADMIN, 0)
        self._leaving: dict[Child, float] = {}
        "Told to end, and when they are killed if they have not."
        self._aborted: dict[Child, float] = {}
        self._wishes: deque[Wish] = deque()
        "What an operator wants; number 0 = by a signal, nobody waits for an answer."
        self._obeyed: dict[int, int] = {}
        "By process id: the number of the settings that it has taken."
        self._settings_number = 0
        self._stops: list[signal.Signals] = []
        self._wake, self._waker = os.pipe()
        self._coming: tuple[Child, ...] = ()
        "Workers of a new configuration, not yet in their slots."
        self._successor: Successor | None = None

    # the whole life

    def run(self, spare: Spare, predecessor: int | None) -> int:
        """Serve until told to stop. `predecessor`: where to say that we are ready. Raises CannotServe."""
        setproctitle("styx: master")
        self._listen_to_signals()
        self._open(spare)
        raise_open_files(self._settings)
        gc.collect()
        gc.freeze()
        try:
            self._start_all()
        except CannotServe:
            # Those that came up accept already, beside the workers of the master that we were to follow.
            self._end_all(self._settings.drain.timeout)
            raise
        if not self._stops:
            self._serving(predecessor)
        while not self._stops:
            if self._wishes:
                if self._grant(self._wishes.popleft()):
                    return self._make_way()
            else:
                self._turn(time.monotonic() + self._tick)
        return self._drain()

    def _listen_to_signals(self) -> None:
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for number in (
            signal.SIGHUP,
            signal.SIGUSR1,
            signal.SIGUSR2,
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGCHLD,
        ):
            signal.signal(number, lambda *_: None)

    def _open(self, spare: Spare) -> None:
        try:
            self._sockets = open_sockets(self._settings, len(self._places), spare)
        except OSError as error:
            raise CannotServe(error.strerror or str(error)) from error
        for address in spare.close():
            log.warning(
                "a socket was handed over that no listener is configured for; it is closed", address=address
            )

    def _start_all(self) -> None:
        self._start(self._admin)
        for place in self._places:
            self._start(place)
        started = [place.child for place in (self._admin, *self._places) if place.child is not None]
        self._await(lambda: all(child.ready or not child.alive for child in started), START_PATIENCE)
        for child in started:
            if not child.ready and not self._stops:
                raise CannotServe(child.why or f"the {child.title} did not come up: {child.how_it_ended}")

    def _serving(self, predecessor: int | None) -> None:
        self._tell_stage(Stage.READY, "")
        where = [str(held.address) for held in self._sockets.listeners]
        log.info("serving", listeners=where, admin=str(self._sockets.admin.address), workers=len(self._places))
        self._systemd.ready(f"serving with {len(self._places)} workers")
        if predecessor is not None:
            os.write(predecessor, b"ready")
            os.close(predecessor)

    # one turn: whatever else goes on

    @property
    def _tick(self) -> float:
        """Longest sleep: a stalled worker is noticed within it."""
        watched = self._systemd.watchdog / 2 if self._systemd.watchdog else 1.0
        return min(1.0, self._settings.watchdog / 4, watched)

    def _await(self, done: Callable[[], bool], patience: float, *, stops: int = 1) -> bool:
        """Turn until this is so: whether it came to that before time was up, or so many signals to stop came."""
        deadline = time.monotonic() + patience
        while not done():
            if time.monotonic() >= deadline or len(self._stops) >= stops:
                return False
            self._turn(min(deadline, time.monotonic() + self._tick))
        return True

    def _turn(self, until: float) -> None:
        lines = {child.line.sock.fileno(): child for child in self._children()}
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        for descriptor in lines:
            poll.register(descriptor, select.POLLIN)
        wait = max(0.0, min(until, self._next_start()) - time.monotonic())
        for descriptor, events in poll.poll(wait * 1000 + 1):
            if descriptor == self._wake:
                self._signalled(os.read(self._wake, 1024))
            elif events & select.POLLIN:
                self._heard(lines[descriptor])
        self._reap()
        self._watch(time.monotonic())
        self._replace(time.monotonic())
        self._systemd.alive()

    def _children(self) -> list[Child]:
        """All that live."""
        settled = [place.child for place in (self._admin, *self._places) if place.child is not None]
        return [child for child in (*settled, *self._leaving, *self._coming) if child.alive]

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            match number:
                case signal.SIGTERM | signal.SIGINT:
                    self._stops.append(signal.Signals(number))
                case signal.SIGHUP:
                    self._wishes.append(Wish(0, "reload"))
                case signal.SIGUSR2:
                    self._wishes.append(Wish(0, "upgrade"))
                case signal.SIGUSR1:
                    self._reopen()

    def _heard(self, child: Child) -> None:
        for message in child.read():
            match message:
                case Ready():
                    child.ready = True
                    if child is self._admin.child:
                        self._tell_stage(*self._stage)
                case Failed(why):
                    child.why = why
                case Obeyed(number, why):
                    child.why = why
                    self._obeyed[child.pid] = number
                case Wish():
                    self._wishes.append(message)

    def _reap(self) -> None:
        by_pid = {child.pid: child for child in self._children()}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            child = by_pid.get(pid)
            if child is not None:
                self._heard(child)  # its last words
                child.status = status
                self._ended(child)
            elif self._successor is not None and pid == self._successor.pid:
                self._successor.status = status

    def _ended(self, child: Child) -> None:
        aborted = self._aborted.pop(child, None)
        self._obeyed.pop(child.pid, None)
        self._nursery.buried(child)
        if self._leaving.pop(child, None) is not None:
            log.info("ended", process=child.title, pid=child.pid, how=child.how_it_ended)
            return
        place = next((p for p in (self._admin, *self._places) if p.child is child), None)
        if place is None:
            return  # one of a new configuration: who waits for it will see
        lived = time.monotonic() - child.born
        place.child = None
        place.early_deaths = 0 if lived >= HEALTHY_LIFE else place.early_deaths + 1
        pause = PAUSES[min(max(0, place.early_deaths - 1), len(PAUSES) - 1)]
        place.due = time.monotonic() + pause
        if self._stage[0] is Stage.STARTING:
            place.child = child  # `_start_all` tells
            place.due = float("inf")
            return
        reason = "stalled" if aborted is not None else "crashed"
        self._row.restarted("admin_crashed" if child.kind is Kind.ADMIN else reason)
        log.error(
            "a process ended by itself; another takes its place",
            process=child.title,
            pid=child.pid,
            how=child.how_it_ended,
            why=child.why,
            lived=round(lived, 1),
            in_a_row=place.early_deaths,
            next_in=pause,
        )

    def _watch(self, now: float) -> None:
        """Who stands still is told to write where, and killed; so is who should have ended long ago."""
        for place in self._places:
            child = place.child
            if child is None or not child.ready or child in self._aborted:
                continue
            if child.silent_for(now) > self._settings.watchdog:
                log.error(
                    "a worker stands still; it is killed",
                    process=child.title,
                    pid=child.pid,
                    seconds=round(child.silent_for(now), 1),
                )
                self._aborted[child] = now + ABORTED
                # Its faulthandler writes where it stands; one that was stopped must run for it.
                child.signal(signal.SIGABRT, signal.SIGCONT)
        for child, deadline in (*self._aborted.items(), *self._leaving.items()):
            if now > deadline and child.alive:
                child.signal(signal.SIGKILL)

    def _next_start(self) -> float:
        return min((p.due for p in (self._admin, *self._places) if p.child is None), default=float("inf"))

    def _replace(self, now: float) -> None:
        for place in (self._admin, *self._places):
            if place.child is None and now >= place.due:
                self._start(place)

    def _start(self, place: Place) -> None:
        try:
            if place.kind is Kind.ADMIN:
                place.child = self._nursery.admin(self._settings, self._sockets)
            else:
                place.child = self._nursery.worker(place.slot, len(self._places), self._settings, self._sockets)
        except OSError as error:
            place.due = time.monotonic() + PAUSES[-1]
            log.error("cannot start a process", process=place.kind.value, slot=place.slot, error=str(error))
            return
        self._tell_stage(*self._stage)

    def _tell_stage(self, stage: Stage, reason: str) -> None:
        self._stage = (stage, reason)
        workers = [(place.slot, place.child.pid) for place in self._places if place.child is not None]
        if self._admin.child is not None and self._admin.child.ready:
            self._admin.child.tell(StageIs(stage.value, reason, workers))

    def _dismiss(self, children: Iterable[Child], drain: Drain) -> None:
        for child in children:
            self._leaving[child] = time.monotonic() + drain.timeout + EXIT_PATIENCE
            child.tell(drain)

    def _in_place(self) -> list[Child]:
        return [place.child for place in self._places if place.child is not None]

    # what the operator wants

    def _grant(self, wish: Wish) -> bool:
        """Whether another master has taken over."""
        taken_over = False
        if wish.what == "reload":
            done, words = self._reload()
            self._row.reloaded(done, time.time())
            log.log(20 if done else 40, "reloaded" if done else "not reloaded", what=words)
        else:
            done, words = taken_over, words = self._upgrade()
            self._row.upgraded(done)
            log.log(20 if done else 40, "upgraded" if done else "not upgraded", what=words)
        if wish.number and self._admin.child is not None:
            self._admin.child.tell(Granted(wish.number, done, words))
        return taken_over

    def _reopen(self) -> None:
        log.info("the logs are reopened")
        for child in self._children():
            child.tell(Reopen())

    def _reload(self) -> tuple[bool, list[str]]:
        try:
            text, settings = self._file.read()
            read_token(settings.core_api.token_file)
            read_token(settings.admin.token_file)
        except CannotRead as error:
            return False, str(error).splitlines()
        told = changes(self._settings, settings)
        self._systemd.reloading()
        if all(change.hot for change in told):
            done, words = self._swap(text, settings)
        else:
            done, words = self._roll(text, settings)
        self._systemd.ready(f"serving with {len(self._places)} workers")
        if not done:
            return False, words
        return True, [*(str(change) for change in told), *words] if told else ["nothing changed", *words]

    def _swap(self, text: str, settings: Settings) -> tuple[bool, list[str]]:
        """Hot: everybody goes on, by other settings."""
        self._text, self._settings = text, settings
        self._settings_number = number = self._settings_number + 1
        event_log.configure(settings.log)
        asked = [child for child in self._children() if not child.leaving and child not in self._leaving]
        for child in asked:
            child.tell(Obey(text, self._file.path, number))
        self._await(
            lambda: all(self._obeyed.get(child.pid) == number or not child.alive for child in asked),
            OBEY_PATIENCE,
        )
        # One that died meanwhile has a successor with the new settings.
        silent = [child.title for child in asked if child.alive and self._obeyed.get(child.pid) != number]
        wrong = [f"{child.title}: {child.why}" for child in asked if child.alive and child.why]
        return not wrong, [*wrong, *(f"{title} did not answer" for title in silent)]

    def _roll(self, text: str, settings: Settings) -> tuple[bool, list[str]]:
        """Cold: every new worker is ready before the old ones go."""
        count = worker_count(settings)
        before = self._sockets
        try:
            sockets = open_sockets(settings, count, spare_of(before))
        except OSError as error:
            return False, [error.strerror or str(error)]
        coming: list[Child] = []
        try:
            for slot in range(count):
                coming.append(self._nursery.worker(slot, count, settings, sockets))
                self._coming = tuple(coming)
            self._await(lambda: all(child.ready or not child.alive for child in coming), START_PATIENCE)
        except OSError as error:
            return self._roll_back(coming, sockets, [f"cannot start a process: {error}"])
        failed = [child for child in coming if not child.ready]
        if failed:
            why = [child.why or f"new {child.title} did not become ready" for child in failed]
            return self._roll_back(coming, sockets, why)
        old, self._coming = self._in_place(), ()
        admin_changed = (settings.admin, settings.user) != (self._settings.admin, self._settings.user)
        self._text, self._settings, self._sockets = text, settings, sockets
        self._places = [Place(Kind.WORKER, slot) for slot in range(count)]
        for place, child in zip(self._places, coming, strict=True):
            place.child = child
        event_log.configure(settings.log)
        patience = settings.drain.timeout
        self._dismiss(old, Drain(patience, patience))
        if self._admin.child is not None and admin_changed:
            self._dismiss([self._admin.child], Drain(0.0, 0.0))
            self._admin.child = None
            self._admin.due = 0.0
        elif self._admin.child is not None:
            self._admin.child.tell(Obey(text, self._file.path, self._settings_number))
        before.close_all_but(sockets)
        self._tell_stage(*self._stage)
        return True, [f"{count} new workers serve; the {len(old)} old ones finish what they have"]

    def _roll_back(self, coming: list[Child], sockets: Sockets, why: list[str]) -> tuple[bool, list[str]]:
        self._coming = ()
        patience = self._settings.drain.timeout
        self._dismiss([child for child in coming if child.alive], Drain(patience, patience))
        sockets.close_all_but(self._sockets)
        return False, why

    def _upgrade(self) -> tuple[bool, list[str]]:
        """Start what is installed now, with our sockets. It says when it is ready; else we stay."""
        self._systemd.reloading()
        try:
            self._successor = successor = Successor.start(self._sockets, self._systemd)
        except OSError as error:
            return False, [f"cannot start {sys.executable}: {error}"]
        self._await(lambda: successor.ready or successor.ended, READY_PATIENCE)
        if successor.ready:
            self._systemd.replaced_by(successor.pid)
            return True, [f"process {successor.pid} serves now; this one, {__version__}, finishes what it has"]
        ended = successor.ended
        successor.give_up()
        self._systemd.ready("serving; an upgrade failed")
        how = "ended before it was ready" if ended else f"was not ready within {READY_PATIENCE:g} s"
        return False, [f"the new version {how} (see its log); {__version__} serves on"]

    # the end

    def _make_way(self) -> int:
        """Another master has our sockets, and serves."""
        setproctitle("styx: master (leaving)")
        patience = self._settings.drain.timeout
        self._dismiss(self._in_place(), Drain(patience, patience))
        if self._admin.child is not None:
            self._dismiss([self._admin.child], Drain(0.0, 0.0))
        self._places, self._admin.child, self._admin.due = [], None, float("inf")
        self._await(lambda: not self._leaving, patience + EXIT_PATIENCE)
        self._end_all()
        return 0

    def _drain(self) -> int:
        """Told to stop."""
        drain = self._settings.drain
        self._tell_stage(Stage.DRAINING, "told to stop")
        delay = 0.0 if self._stops[0] is signal.SIGINT else drain.delay
        log.info("stopping", by=self._stops[0].name, delay=delay, timeout=drain.timeout)
        self._systemd.stopping("draining")
        self._await(lambda: False, delay, stops=2)
        workers = self._in_place()
        self._places = []
        self._sockets.close_listeners()
        self._dismiss(workers, Drain(drain.timeout, drain.idle))
        self._await(lambda: not any(child.alive for child in workers), drain.timeout + EXIT_PATIENCE, stops=2)
        if any(child.alive for child in workers):
            log.warning("ending at once", by="a second signal" if len(self._stops) > 1 else "drain.timeout")
        self._end_all()
        self._sockets.close_all_but()
        log.info("stopped")
        return 0

    def _end_all(self, patience: float = 0.0) -> None:
        """Whoever is left: told to end within so long, then killed."""
        left = self._children()
        self._places, self._admin.child, self._admin.due = [], None, float("inf")
        self._dismiss(left, Drain(patience, patience))
        stops = len(self._stops) + 1
        self._await(lambda: not any(child.alive for child in left), patience + 2.0, stops=stops)
        for child in left:
            child.signal(signal.SIGKILL)
        self._await(lambda: not any(child.alive for child in left), 2.0, stops=stops + 1)


def worker_count(settings: Settings) -> int:
    """How many workers these settings mean on this machine."""
    return settings.workers or len(os.sched_getaffinity(0))
