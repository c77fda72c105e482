"""Who should be there, who is, and who is about to leave: the master's children, replaced when they end unasked.

Nothing here waits: the master calls `look` at every turn.
"""

import os
import signal
import time
from collections.abc import Iterable

import structlog

from edge.admin.health import Stage
from edge.admin.scoreboard import Row
from edge.rules.settings import Settings
from edge.run.control.control_messages import (
    AcceptFor,
    AcceptingStarted,
    Command,
    CommandFinished,
    Drain,
    Draining,
    Failed,
    FromChild,
    Message,
    Ready,
    RoutesTaken,
    SettingsApplied,
    StageIs,
    StartAccepting,
    StopAcceptingFor,
)
from edge.run.processes.process_spawner import ABORTED, Child, Kind, ProcessSpawner
from edge.run.sockets.accept_queue_monitor import AcceptQueueMonitor
from edge.run.sockets.listening_sockets import Sockets

START_PATIENCE = 30.0
"Seconds until a new child must be ready."
EXIT_PATIENCE = 5.0
"Seconds beyond `drain.timeout` after which a worker that should have ended is killed."
HEALTHY_LIFE = 10.0
"A child that lived for so long did not die of what it was started with: it is replaced at once."
PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
"Seconds before the next try, after so many early deaths in a row."
SILENT = 1.0
"Seconds without a heartbeat after which another worker accepts for one, too."
AT_ONCE = Drain(0.0, 0.0)
NEVER = float("inf")

log = structlog.get_logger("styx.master")


class WorkerSlot:
    """A slot for a worker, or the place of the admin process: somebody should always be there."""

    def __init__(self, kind: Kind, slot: int) -> None:
        self.kind = kind
        self.slot = slot
        self.child: Child | None = None
        self.early_deaths = 0
        self.due = 0.0
        "When the next one may be started."


class Supervisor:
    """See the module. `row`: where the master counts."""

    def __init__(
        self, spawner: ProcessSpawner, row: Row, settings: Settings, sockets: Sockets, workers: int
    ) -> None:
        self._spawner = spawner
        self._row = row
        self._settings = settings
        self._sockets = sockets
        self._stage = (Stage.STARTING, "workers are not ready yet")
        self._places = [WorkerSlot(Kind.WORKER, slot) for slot in range(workers)]
        self._admin = WorkerSlot(Kind.ADMIN, 0)
        self._coming: list[Child] = []
        "Workers of a new configuration, not yet in their slots."
        self._leaving: dict[Child, float] = {}
        "Told to end, and when they are killed if they have not."
        self._stand_ins: dict[int, Child] = {}
        "Who accepts besides for a slot whose worker does not."
        self._accept_watch = AcceptQueueMonitor()
        self._aborted: dict[Child, float] = {}
        "Stood still, and when they are killed if they have not ended of it."

    # who is there

    @property
    def living(self) -> list[Child]:
        """All, whatever they are about to do."""
        settled = [place.child for place in self._every_place if place.child is not None]
        return [child for child in (*settled, *self._leaving, *self._coming) if child.alive]

    @property
    def staying(self) -> list[Child]:
        """Those that were not told to end."""
        return [child for child in self.living if child not in self._leaving]

    @property
    def workers(self) -> list[Child]:
        """Those in the slots."""
        return [place.child for place in self._places if place.child is not None]

    @property
    def admin(self) -> Child | None:
        return self._admin.child

    @property
    def anybody_leaves(self) -> bool:
        return bool(self._leaving)

    @property
    def status(self) -> str:
        """For `systemctl status`."""
        return f"serving with {len(self.workers)} workers"

    @property
    def next_start(self) -> float:
        """When `look` has somebody to start."""
        return min((place.due for place in self._every_place if place.child is None), default=NEVER)

    @property
    def _every_place(self) -> tuple[WorkerSlot, ...]:
        return (self._admin, *self._places)

    # at every turn

    def look(self, now: float) -> list[tuple[int, int]]:
        """Bury, kill, and start whom it is time to. Returns strangers that ended: process id and status."""
        strangers = self._reap()
        self._watch(now)
        for place in self._every_place:
            if place.child is None and now >= place.due:
                self._start(place)
        self._let_others_stand_in(now)
        return strangers

    def heard(self, child: Child) -> list[Command]:
        """Read what it says. Returns what it wishes; the rest is noted."""
        wishes: list[Command] = []
        for message in child.read():
            self._note(child, message, wishes)
        if child.line.violation and child in self.staying:
            self._distrust(child)
        return wishes

    def _note(self, child: Child, message: FromChild, wishes: list[Command]) -> None:
        match message:
            case Ready():
                child.ready = True
                if child is self._admin.child:
                    self.tell_stage(*self._stage)
                elif child in self.workers and self._stage[0] is not Stage.STARTING:
                    child.tell(StartAccepting())  # it takes somebody's place: nobody is waited for
            case AcceptingStarted():
                child.begun = True
            case Draining():  # told by somebody else perhaps: what it has may take long
                child.begun = False
            case Failed(why):
                child.why = why
            case SettingsApplied(number, why):
                child.why = why
                child.obeyed = number
            case RoutesTaken():
                child.routes_taken = message
            case Command(number) if child is not self._admin.child:
                child.tell(
                    CommandFinished(number, False, ["another admin process has taken the place of this one"])
                )
            case Command():
                wishes.append(message)

    def _distrust(self, child: Child) -> None:
        """Another takes its place; it may finish what it has in hand, but is not listened to any more."""
        log.error(
            "bad message on the channel",
            code="bad_channel_message",
            process=child.title,
            pid=child.pid,
            error=child.line.violation,
        )
        child.why = f"bad message: {child.line.violation}"
        place = next((p for p in self._every_place if p.child is child), None)
        if place is not None:
            self._vacate(place, child, "bad_message")
        time_limit = self._settings.drain.timeout if child.kind is Kind.WORKER else 0.0
        self.dismiss([child], Drain(time_limit, self._settings.drain.idle))
        child.line.hang_up()

    def _reap(self) -> list[tuple[int, int]]:
        by_pid = {child.pid: child for child in self.living}
        strangers: list[tuple[int, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return strangers
            if not pid:
                return strangers
            child = by_pid.get(pid)
            if child is None:
                strangers.append((pid, status))
            else:
                self.heard(child)  # its last words
                child.status = status
                self._ended(child)

    def _ended(self, child: Child) -> None:
        stalled = self._aborted.pop(child, None) is not None
        self._spawner.buried(child)
        if self._leaving.pop(child, None) is not None:
            log.info(
                "process ended", code="process_ended", process=child.title, pid=child.pid, how=child.how_it_ended
            )
            return
        place = next((p for p in self._every_place if p.child is child), None)
        if place is None or self._stage[0] is Stage.STARTING:
            return  # who waits for it will see
        pause = self._vacate(place, child, "stalled" if stalled else "crashed")
        log.error(
            "process ended by itself",
            code="process_died",
            process=child.title,
            pid=child.pid,
            how=child.how_it_ended,
            why=child.why,
            lived=round(time.monotonic() - child.born, 1),
            in_a_row=place.early_deaths,
            next_in=pause,
        )

    def _vacate(self, place: WorkerSlot, child: Child, reason: str) -> float:
        """Another is to take this place. Returns the seconds until then."""
        lived = time.monotonic() - child.born
        place.child = None
        place.early_deaths = 0 if lived >= HEALTHY_LIFE else place.early_deaths + 1
        pause = PAUSES[min(max(0, place.early_deaths - 1), len(PAUSES) - 1)]
        place.due = time.monotonic() + pause
        self._row.restarted(reason if child.kind is Kind.WORKER else f"admin_{reason}")
        return pause

    def _watch(self, now: float) -> None:
        """Who stands still is told to write where, and killed; so is who should have ended long ago."""
        for child in (*self.workers, *filter(None, [self.admin])):
            silent = child.silent_for(now)
            if child in self._aborted or silent <= (self._settings.watchdog if child.ready else START_PATIENCE):
                continue
            log.error(
                "stalled process killed",
                code="process_stalled",
                process=child.title,
                pid=child.pid,
                seconds=round(silent, 1),
            )
            self._aborted[child] = now + ABORTED
            # Its faulthandler writes where it stands; one that was stopped must run for it.
            child.signal(signal.SIGABRT, signal.SIGCONT)
        for child, deadline in (*self._aborted.items(), *self._leaving.items()):
            if now > deadline:
                child.signal(signal.SIGKILL)

    def _let_others_stand_in(self, now: float) -> None:
        """The kernel goes on to give connections to the socket of a worker that has died, stands still, or accepts
        fewer than come."""
        if self._stage[0] is not Stage.READY:
            return
        accepting = {c.slot: c for c in self.workers if c.begun and c.alive and c.silent_for(now) < SILENT}
        for slot in self._accept_watch.look(self._sockets, self.workers, now):
            accepting.pop(slot, None)
        wanted = {slot: accepting[by] for slot, by in stand_ins(len(self._places), accepting).items()}
        before, self._stand_ins = self._stand_ins, {}
        for slot, child in wanted.items():
            sockets = self._sockets.of_slot(slot)
            if before.get(slot) is child:
                self._stand_ins[slot] = child
            elif sockets:
                log.warning(
                    "worker accepting for another", code="accepting_for_another", process=child.title, slot=slot
                )
                for number, sock in sockets.items():
                    child.tell(AcceptFor(slot, number), sock)
                self._stand_ins[slot] = child
        for slot, child in before.items():
            if self._stand_ins.get(slot) is not child:
                child.tell(StopAcceptingFor(slot))

    # who comes

    def start_all(self) -> list[Child]:
        """Everybody, for the first time."""
        for place in self._every_place:
            self._start(place)
        return [place.child for place in self._every_place if place.child is not None]

    def _start(self, place: WorkerSlot) -> None:
        try:
            if place.kind is Kind.ADMIN:
                place.child = self._spawner.admin(self._settings, self._sockets)
            else:
                place.child = self._spawner.worker(place.slot, len(self._places), self._settings, self._sockets)
        except OSError as error:
            place.due = time.monotonic() + PAUSES[-1]
            log.error(
                "process not started",
                code="process_not_started",
                process=place.kind.value,
                slot=place.slot,
                error=str(error),
            )
            return
        self.tell_stage(*self._stage)

    def start_beside(self, settings: Settings, sockets: Sockets, workers: int) -> list[Child]:
        """Workers of a new configuration, beside those that serve. Raises OSError, with some of them started."""
        self._coming = []
        for slot in range(workers):
            self._coming.append(self._spawner.worker(slot, workers, settings, sockets))
        return list(self._coming)

    def begin(self, workers: Iterable[Child]) -> None:
        """All are ready: they accept from now on."""
        for child in workers:
            child.tell(StartAccepting())

    def change_over(self, settings: Settings, sockets: Sockets) -> list[Child]:
        """Those that were started beside take the slots; returns whom they replace."""
        before, coming = self.workers, self._coming
        self.reconfigure(settings, sockets)
        self._places = [WorkerSlot(Kind.WORKER, slot) for slot in range(len(coming))]
        for place, child in zip(self._places, coming, strict=True):
            place.child = child
        self._coming = []
        self.tell_stage(*self._stage)
        return before

    def change_nothing(self, time_limit: float) -> None:
        """Those that were started beside go again; they may have accepted something already."""
        coming, self._coming = self._coming, []
        self.dismiss((child for child in coming if child.alive), Drain(time_limit, time_limit))

    def reconfigure(self, settings: Settings, sockets: Sockets) -> None:
        """Whoever is started from now on is started like this."""
        if sockets is not self._sockets:
            self._accept_watch = AcceptQueueMonitor()
        self._settings, self._sockets = settings, sockets

    # who goes

    def dismiss(self, children: Iterable[Child], drain: Drain) -> None:
        """Tell them to end; who does not is killed."""
        for child in children:
            self._leaving[child] = time.monotonic() + drain.timeout + EXIT_PATIENCE
            child.tell(drain)

    def replace_admin(self) -> None:
        """Another takes its place at once."""
        if self._admin.child is not None:
            self.dismiss([self._admin.child], AT_ONCE)
        self._admin.child, self._admin.due = None, 0.0

    def dismiss_admin(self) -> None:
        """For good."""
        self.replace_admin()
        self._admin.due = NEVER

    def dismiss_workers(self, drain: Drain) -> list[Child]:
        """For good; returns whom."""
        workers, self._places = self.workers, []
        self.dismiss(workers, drain)
        return workers

    def dismiss_all(self, drain: Drain) -> list[Child]:
        """Everybody who is left, for good; returns whom."""
        everybody = self.living
        self._places, self._coming, self._admin.child, self._admin.due = [], [], None, NEVER
        self.dismiss(everybody, drain)
        return everybody

    # what they are told

    def tell_stage(self, stage: Stage, reason: str) -> None:
        """Where the edge is in its life: the admin process tells others."""
        self._stage = (stage, reason)
        workers = [(child.slot, child.pid) for child in self.workers]
        if self._admin.child is not None and self._admin.child.ready:
            self._admin.child.tell(StageIs(stage.value, reason, workers))

    def tell_all(self, message: Message) -> None:
        for child in self.living:
            child.tell(message)


def stand_ins(slots: int, accepting: Iterable[int]) -> dict[int, int]:
    """Who accepts for those of so many slots that do not: for each the next one that does. Pure."""
    well = sorted(accepting)
    if not well:
        return {}
    return {slot: next((w for w in well if w > slot), well[0]) for slot in range(slots) if slot not in well}
