"""Supervises the children of the master: starts them, stops them, and replaces those that die or stall.

Nothing here blocks: the master calls `tick` in every turn.
"""

import os
import signal
import time
from collections.abc import Iterable

import structlog

from edge.admin.health import Stage
from edge.admin.scoreboard import Row
from edge.rules.settings import Settings
from edge.rules.settings.diff import bound_to_issuer
from edge.run import event_log
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
    SetLogLevel,
    SettingsApplied,
    StageIs,
    StartAccepting,
    StopAcceptingFor,
)
from edge.run.processes.process_spawner import ABORTED, Child, Kind, ProcessSpawner
from edge.run.sockets.accept_queue_monitor import AcceptQueueMonitor
from edge.run.sockets.listening_sockets import Sockets

START_TIMEOUT = 30.0
"Seconds for a new child to become ready."
EXIT_TIMEOUT = 5.0
"Seconds after `drain.timeout` until a worker that should have ended is killed."
HEALTHY_LIFE = 10.0
"Seconds. A child that lived for so long did not die of what it was started with: it is replaced at once."
PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
"Seconds before the next start, by the number of early deaths in a row."
SILENT = 1.0
"Seconds without a heartbeat after which another worker accepts for this one as well."
DRAIN_AT_ONCE = Drain(0.0, 0.0)
NEVER = float("inf")

log = structlog.get_logger("styx.master")


class WorkerSlot:
    """The slot of a worker, of the admin process or of the issuer: it should always have a living child."""

    def __init__(self, kind: Kind, slot: int) -> None:
        self.kind = kind
        self.slot = slot
        self.child: Child | None = None
        self.early_deaths = 0
        self.start_at = 0.0
        "When the next child may be started, on the monotonic clock."


class Supervisor:
    """The children of the master, by slot. `row`: the master's row of the scoreboard."""

    def __init__(
        self, spawner: ProcessSpawner, row: Row, settings: Settings, sockets: Sockets, workers: int
    ) -> None:
        self._spawner = spawner
        self._row = row
        self._settings = settings
        self._sockets = sockets
        self._stage = (Stage.STARTING, "workers are not ready yet")
        self._worker_slots = [WorkerSlot(Kind.WORKER, slot) for slot in range(workers)]
        self._admin = WorkerSlot(Kind.ADMIN, 0)
        self._issuer = WorkerSlot(Kind.ISSUER, 0)
        "Never started before the edge serves, nor without `tls.acme`."
        self._issuer.start_at = NEVER
        self._coming: list[Child] = []
        "Workers of a new configuration, not yet in their slots."
        self._leaving: dict[Child, float] = {}
        "Children that are being stopped, and when each is killed."
        self._accepting_for: dict[int, Child] = {}
        "By slot: the worker of another slot that accepts for it."
        self._accept_queues = AcceptQueueMonitor()
        self._aborted: dict[Child, float] = {}
        "Stalled children that were sent SIGABRT, and when each is killed."

    # children

    @property
    def living(self) -> list[Child]:
        """All children that have not ended, also those being started or stopped."""
        settled = [worker_slot.child for worker_slot in self._all_slots if worker_slot.child is not None]
        return [child for child in (*settled, *self._leaving, *self._coming) if child.alive]

    @property
    def staying(self) -> list[Child]:
        """The living children that are not being stopped."""
        return [child for child in self.living if child not in self._leaving]

    @property
    def workers(self) -> list[Child]:
        """The workers in the slots."""
        return [worker_slot.child for worker_slot in self._worker_slots if worker_slot.child is not None]

    @property
    def admin(self) -> Child | None:
        return self._admin.child

    @property
    def anybody_leaves(self) -> bool:
        return bool(self._leaving)

    @property
    def status(self) -> str:
        """The text for `systemctl status`."""
        return f"serving with {len(self.workers)} workers"

    @property
    def next_start(self) -> float:
        """When `tick` has the next child to start, on the monotonic clock."""
        return min(
            (worker_slot.start_at for worker_slot in self._all_slots if worker_slot.child is None), default=NEVER
        )

    @property
    def _all_slots(self) -> tuple[WorkerSlot, ...]:
        return (self._admin, self._issuer, *self._worker_slots)

    # in every turn

    def tick(self, now: float) -> list[tuple[int, int]]:
        """Reap, kill and start children as necessary. Returns processes that ended and are no child of the
        supervisor: process id and status."""
        unknown = self._reap()
        self._watch(now)
        for worker_slot in self._all_slots:
            if worker_slot.child is None and now >= worker_slot.start_at:
                self._start(worker_slot)
        self._cover_slots(now)
        return unknown

    def received(self, child: Child) -> list[Command]:
        """Read and handle the messages of a child. Returns the commands of the operator among them."""
        commands: list[Command] = []
        for message in child.read():
            self._handle(child, message, commands)
        if child.channel.violation and child in self.staying:
            self._expel(child)
        return commands

    def _handle(self, child: Child, message: FromChild, commands: list[Command]) -> None:
        match message:
            case Ready():
                child.ready = True
                if child is self._admin.child:
                    self.send_stage(*self._stage)
                elif child in self.workers and self._stage[0] is not Stage.STARTING:
                    child.send(StartAccepting())  # it replaces one worker, and need not wait for others
            case AcceptingStarted():
                child.accepting = True
            case Draining():  # perhaps not ordered by us (SIGTERM); its requests in flight may take long
                child.accepting = False
            case Failed(why):
                child.why = why
            case SettingsApplied(number, why):
                child.why = why
                child.settings_applied = number
            case RoutesTaken():
                child.routes_taken = message
            case Command(number) if child is not self._admin.child:
                child.send(
                    CommandFinished(number, False, ["another admin process has taken the place of this one"])
                )
            case SetLogLevel(_, level, seconds):
                event_log.follow_order(level, seconds, time.monotonic())
            case Command():
                commands.append(message)

    def _expel(self, child: Child) -> None:
        """Replace a child that has violated the protocol. It may finish its requests in flight, but no message of
        it is read any more."""
        log.error(
            "bad message on the channel",
            code="bad_channel_message",
            process=child.title,
            pid=child.pid,
            error=child.channel.violation,
        )
        child.why = f"bad message: {child.channel.violation}"
        worker_slot = next((s for s in self._all_slots if s.child is child), None)
        if worker_slot is not None:
            self._vacate(worker_slot, child, "bad_message")
        time_limit = self._settings.drain.timeout if child.kind is Kind.WORKER else 0.0
        self.stop([child], Drain(time_limit, self._settings.drain.idle))
        child.channel.hang_up()

    def _reap(self) -> list[tuple[int, int]]:
        by_pid = {child.pid: child for child in self.living}
        unknown: list[tuple[int, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return unknown
            if not pid:
                return unknown
            child = by_pid.get(pid)
            if child is None:
                unknown.append((pid, status))
            else:
                self.received(child)  # the messages that it sent before it ended
                child.status = status
                self._ended(child)

    def _ended(self, child: Child) -> None:
        stalled = self._aborted.pop(child, None) is not None
        self._spawner.reaped(child)
        if self._leaving.pop(child, None) is not None:
            log.info(
                "process ended", code="process_ended", process=child.title, pid=child.pid, how=child.how_it_ended
            )
            return
        worker_slot = next((s for s in self._all_slots if s.child is child), None)
        # While the edge starts, the caller that waits for it sees that it has ended, unless it was ready before.
        if worker_slot is not None and self._stage[0] is not Stage.STARTING:
            self._died(worker_slot, child, "stalled" if stalled else "crashed")

    def _died(self, worker_slot: WorkerSlot, child: Child, reason: str) -> None:
        pause = self._vacate(worker_slot, child, reason)
        log.error(
            "process ended unexpectedly",
            code="process_died",
            process=child.title,
            pid=child.pid,
            how=child.how_it_ended,
            why=child.why,
            lived=round(time.monotonic() - child.started_at, 1),
            in_a_row=worker_slot.early_deaths,
            next_in=pause,
        )

    def _vacate(self, worker_slot: WorkerSlot, child: Child, reason: str) -> float:
        """Have another child started in this slot. Returns the seconds until then."""
        lived = time.monotonic() - child.started_at
        worker_slot.child = None
        worker_slot.early_deaths = 0 if lived >= HEALTHY_LIFE else worker_slot.early_deaths + 1
        pause = PAUSES[min(max(0, worker_slot.early_deaths - 1), len(PAUSES) - 1)]
        worker_slot.start_at = time.monotonic() + pause
        self._row.restarted(reason if child.kind is Kind.WORKER else f"{child.kind}_{reason}")
        return pause

    def _watch(self, now: float) -> None:
        """Abort stalled children, which then write a traceback; kill those that should have ended by now."""
        for child in (*self.workers, *filter(None, [self.admin, self._issuer.child])):
            silent = child.silent_for(now)
            if child in self._aborted or silent <= (self._settings.watchdog if child.ready else START_TIMEOUT):
                continue
            log.error(
                "stalled process killed",
                code="process_stalled",
                process=child.title,
                pid=child.pid,
                seconds=round(silent, 1),
            )
            self._aborted[child] = now + ABORTED
            # Its faulthandler writes a traceback; a process that was stopped must continue to do so.
            child.signal(signal.SIGABRT, signal.SIGCONT)
        for child, deadline in (*self._aborted.items(), *self._leaving.items()):
            if now > deadline:
                child.signal(signal.SIGKILL)

    def _cover_slots(self, now: float) -> None:
        """Have other workers accept for slots whose worker has died, stalls, or accepts fewer connections than
        come: the kernel keeps queueing connections on its socket."""
        if self._stage[0] is not Stage.READY:
            return
        accepting = {c.slot: c for c in self.workers if c.accepting and c.alive and c.silent_for(now) < SILENT}
        for slot in self._accept_queues.check(self._sockets, self.workers, now):
            accepting.pop(slot, None)
        wanted = {slot: accepting[by] for slot, by in accepting_for(len(self._worker_slots), accepting).items()}
        before, self._accepting_for = self._accepting_for, {}
        for slot, child in wanted.items():
            sockets = self._sockets.of_slot(slot)
            if before.get(slot) is child:
                self._accepting_for[slot] = child
            elif sockets:
                log.warning(
                    "accepting for another worker", code="accepting_for_another", process=child.title, slot=slot
                )
                for number, sock in sockets.items():
                    child.send(AcceptFor(slot, number), sock)
                self._accepting_for[slot] = child
        for slot, child in before.items():
            if self._accepting_for.get(slot) is not child:
                child.send(StopAcceptingFor(slot))

    # starting

    def start_all(self) -> list[Child]:
        """Start the admin process and all workers. Returns the children that could be started."""
        slots = (self._admin, *self._worker_slots)
        for worker_slot in slots:
            self._start(worker_slot)
        return [worker_slot.child for worker_slot in slots if worker_slot.child is not None]

    def _start(self, worker_slot: WorkerSlot) -> None:
        try:
            if worker_slot.kind is Kind.ADMIN:
                worker_slot.child = self._spawner.admin(self._settings, self._sockets)
            elif worker_slot.kind is Kind.ISSUER:
                worker_slot.child = self._spawner.issuer(self._settings)
            else:
                worker_slot.child = self._spawner.worker(
                    worker_slot.slot, len(self._worker_slots), self._settings, self._sockets
                )
        except OSError as error:
            worker_slot.start_at = time.monotonic() + PAUSES[-1]
            log.error(
                "process not started",
                code="process_not_started",
                process=worker_slot.kind.value,
                slot=worker_slot.slot,
                error=str(error),
            )
            return
        self.send_stage(*self._stage)

    def start_beside(self, settings: Settings, sockets: Sockets, workers: int) -> list[Child]:
        """Start workers of a new configuration, beside those that serve. Raises OSError, perhaps with some of them
        started."""
        self._coming = []
        for slot in range(workers):
            self._coming.append(self._spawner.worker(slot, workers, settings, sockets))
        return list(self._coming)

    def start_accepting(self, workers: Iterable[Child]) -> None:
        """Have these workers accept from now on."""
        for child in workers:
            child.send(StartAccepting())

    def replace_workers(self, settings: Settings, sockets: Sockets) -> list[Child]:
        """Put the workers of `start_beside` into the slots. Returns the workers that they replace."""
        before, coming = self.workers, self._coming
        self.reconfigure(settings, sockets)
        self._worker_slots = [WorkerSlot(Kind.WORKER, slot) for slot in range(len(coming))]
        for worker_slot, child in zip(self._worker_slots, coming, strict=True):
            worker_slot.child = child
        self._coming = []
        self.send_stage(*self._stage)
        return before

    def abandon_replacement(self, time_limit: float) -> None:
        """Stop the workers of `start_beside`. They may have accepted connections already, and drain within
        `time_limit` seconds."""
        coming, self._coming = self._coming, []
        self.stop((child for child in coming if child.alive), Drain(time_limit, time_limit))

    def reconfigure(self, settings: Settings, sockets: Sockets) -> None:
        """Use these settings and sockets for all children that are started from now on."""
        if sockets is not self._sockets:
            self._accept_queues = AcceptQueueMonitor()
        is_same = bound_to_issuer(settings) == bound_to_issuer(self._settings)
        self._settings, self._sockets = settings, sockets
        if not is_same:
            self._replace_issuer()

    # stopping

    def stop(self, children: Iterable[Child], drain: Drain) -> None:
        """Drain these children; one that has not ended EXIT_TIMEOUT after its drain timeout is killed."""
        for child in children:
            self._leaving[child] = time.monotonic() + drain.timeout + EXIT_TIMEOUT
            child.send(drain)

    def replace_admin(self) -> None:
        """Stop the admin process, and start another at once."""
        if self._admin.child is not None:
            self.stop([self._admin.child], DRAIN_AT_ONCE)
        self._admin.child, self._admin.start_at = None, 0.0

    def stop_admin(self) -> None:
        """Stop the admin process and the issuer, and start no others."""
        self.replace_admin()
        self._admin.start_at = NEVER
        self._stop_issuer()

    def _replace_issuer(self) -> None:
        """Stop the issuer, and start another at once, if there is one with these settings and the edge serves."""
        self._stop_issuer()
        if self._stage[0] is Stage.READY and self._settings.tls.acme.is_on:
            self._issuer.start_at = 0.0

    def _stop_issuer(self) -> None:
        if self._issuer.child is not None:
            self.stop([self._issuer.child], DRAIN_AT_ONCE)
        self._issuer.child, self._issuer.start_at = None, NEVER

    def stop_workers(self, drain: Drain) -> list[Child]:
        """Stop all workers, and start no others. Returns those that were stopped."""
        workers, self._worker_slots = self.workers, []
        self.stop(workers, drain)
        return workers

    def stop_all(self, drain: Drain) -> list[Child]:
        """Stop all living children, and start no others. Returns those that were stopped."""
        children = self.living
        self._worker_slots, self._coming, self._admin.child, self._admin.start_at = [], [], None, NEVER
        self._issuer.child, self._issuer.start_at = None, NEVER
        self.stop(children, drain)
        return children

    # messages

    def send_stage(self, stage: Stage, reason: str) -> None:
        """Set the stage of the edge, and send it to the admin process, which reports it. The issuer works while the
        edge serves."""
        before, self._stage = self._stage[0], (stage, reason)
        if stage is not before:
            self._replace_issuer()
        if before is Stage.STARTING and stage is Stage.READY:
            for worker_slot in self._all_slots:  # one may have been ready, and have ended before the others were
                if worker_slot.child is not None and not worker_slot.child.alive:
                    self._died(worker_slot, worker_slot.child, "crashed")
        workers = [(child.slot, child.pid) for child in self.workers]
        if self._admin.child is not None and self._admin.child.ready:
            self._admin.child.send(StageIs(stage.value, reason, workers))

    def send_all(self, message: Message) -> None:
        for child in self.living:
            child.send(message)


def accepting_for(slots: int, accepting: Iterable[int]) -> dict[int, int]:
    """For each of `slots` slots that does not accept: the next slot that does. Pure."""
    healthy = sorted(accepting)
    if not healthy:
        return {}
    return {
        slot: next((h for h in healthy if h > slot), healthy[0]) for slot in range(slots) if slot not in healthy
    }
