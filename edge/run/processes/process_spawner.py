"""Starts the children of the master, and keeps for each its channel, its row of the scoreboard and its state."""

import errno
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from edge.admin.scoreboard import Row, Scoreboard
from edge.rules.route_sets.route_set_records import RouteSet
from edge.rules.settings import Settings
from edge.rules.tls.ticket_chain import TicketChain
from edge.run import admin_process, worker_process
from edge.run.acme import issuer_process
from edge.run.configuration_file import ConfigurationText
from edge.run.control.channel import MasterEnd
from edge.run.control.control_link import Password
from edge.run.control.control_messages import (
    AdminToMaster,
    FromChild,
    IssuerToMaster,
    Message,
    RoutesTaken,
    WorkerToMaster,
)
from edge.run.control.peer_credentials import ask_for_senders
from edge.run.processes.fork import fork
from edge.run.processes.ticket_handover import take_tickets
from edge.run.routes.route_set_store import RouteSetStore
from edge.run.sockets.listening_sockets import Sockets
from edge.run.tls_setup import new_ticket_chain

ABORTED = 1.0
"Seconds that a stalled process has to write a traceback before it is killed."


class Kind(StrEnum):
    """The kinds of children."""

    WORKER = "worker"
    ADMIN = "admin"
    ISSUER = "issuer"


_LEGAL: Mapping[Kind, Any] = {
    Kind.WORKER: WorkerToMaster,
    Kind.ADMIN: AdminToMaster,
    Kind.ISSUER: IssuerToMaster,
}
"What each may send to the master."


class Child:
    """One child process, as the master knows it."""

    def __init__(self, kind: Kind, slot: int, pid: int, channel: MasterEnd, row: int, cells: Row) -> None:
        self.kind = kind
        self.slot = slot
        self.pid = pid
        self.channel = channel
        self.row = row
        self.cells = cells
        self.started_at = time.monotonic()
        self.ready = False
        self.accepting = False
        "The worker accepts connections."
        self.settings_applied = 0
        "Number of the last `ApplySettings` that it replied to."
        self.routes_taken: RoutesTaken | None = None
        "The result of the last `TakeRoutes`."
        self.why = ""
        "The failure that it has reported."
        self.status: int | None = None
        "Its status from waitpid(2); None while it lives."

    def __repr__(self) -> str:
        return f"<{self.title} {self.pid}>"

    @property
    def title(self) -> str:
        match self.kind:
            case Kind.WORKER:
                return f"worker {self.slot}"
            case Kind.ADMIN:
                return "admin process"
            case Kind.ISSUER:
                return "issuer"

    @property
    def alive(self) -> bool:
        return self.status is None

    @property
    def how_it_ended(self) -> str:
        """A text for the event log: the signal or the exit status that it ended with."""
        if self.status is None:
            return "it still runs"
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            return f"killed by {signal.Signals(number).name}"
        return f"exit status {os.waitstatus_to_exitcode(self.status)}"

    def silent_for(self, now: float) -> float:
        """Seconds since its last heartbeat, or since it was started."""
        return now - max(self.cells.heartbeat, self.started_at)

    def send(self, message: Message, along: socket.socket | None = None) -> bool:
        return self.alive and self.channel.send(message, along)

    def read(self) -> list[FromChild]:
        return self.channel.read()

    def signal(self, *numbers: signal.Signals) -> None:
        """Send it these signals, unless it has ended."""
        if self.alive:
            for number in numbers:
                os.kill(self.pid, number)


class ProcessSpawner:
    """Starts children. Each has a row of the scoreboard of its own; row 0 is the master's."""

    def __init__(self, board: Scoreboard, first_routes: RouteSet | None = None) -> None:
        self.board = board
        self.first_routes = first_routes
        "The routes of a pushed source for children that find none on disk."
        self._rows = list(range(board.rows - 1, 0, -1))
        # An abstract address: no file to clean up. A process that does not know the secret is refused.
        self._password = Password(f"\0styx-{os.getpid()}-{secrets.token_hex(8)}", secrets.token_bytes(16))
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.bind(self._password.address)
        self._control.listen(1024)
        self._control.setblocking(False)

        self.tickets: tuple[TicketChain, float] | None = take_tickets(os.environ)
        "The ticket keys of all workers, and for how many seconds each is used; None = no worker was started yet."
        self.configuration = ConfigurationText("", "")
        "What the settings were parsed from; the admin process reports it."
        self.routes: Path
        "The directory where the children save routes."

    def worker(self, slot: int, workers: int, settings: Settings, sockets: Sockets) -> Child:
        """Start a worker for this slot of `workers`. Raises OSError when no process can be started."""
        accepting = sockets.for_worker(slot, workers, settings.listeners)
        keep = [sock.fileno() for _, sock in accepting]
        tickets = self._tickets_of_now(settings)

        def run(channel: socket.socket, row: Row) -> int:
            return worker_process.run(
                settings,
                slot=slot,
                row=row,
                accepting=accepting,
                channel=channel,
                password=self._password,
                routes=self.routes,
                sets=RouteSetStore(self.routes, self.first_routes),
                tickets=tickets,
            )

        return self._start(Kind.WORKER, slot, settings, keep, run)

    def _tickets_of_now(self, settings: Settings) -> TicketChain:
        """The chain of ticket keys of all workers. A new one begins when `tls.tickets.rotate` changes."""
        period = settings.tls.tickets.rotate
        chain = None if self.tickets is None or self.tickets[1] != period else self.tickets[0]
        chain = (chain or new_ticket_chain(settings)).advanced(int(time.time() // period))
        self.tickets = chain, period
        return chain

    def admin(self, settings: Settings, sockets: Sockets) -> Child:
        """Start the admin process. Raises OSError when no process can be started."""
        [sock, *more] = [sock for held in sockets.of_admin for sock in held.sockets]

        def run(channel: socket.socket, row: Row) -> int:
            return admin_process.run(
                self.configuration,
                settings,
                board=self.board,
                row=row,
                sock=sock,
                admin_socket=more[0] if more else None,
                channel=channel,
                control=self._control,
                secret=self._password.secret,
                routes=self.routes,
                sets=RouteSetStore(self.routes, self.first_routes),
            )

        keep = [each.fileno() for each in (sock, *more, self._control)]
        return self._start(Kind.ADMIN, 0, settings, keep, run)

    def issuer(self, settings: Settings) -> Child:
        """Start the issuer. Raises OSError when no process can be started."""

        def run(channel: socket.socket, row: Row) -> int:
            return issuer_process.run(settings, row=row, channel=channel, password=self._password)

        return self._start(Kind.ISSUER, 0, settings, [], run)

    def _start(
        self,
        kind: Kind,
        slot: int,
        settings: Settings,
        keep: list[int],
        run: Callable[[socket.socket, Row], int],
    ) -> Child:
        if not self._rows:
            raise OSError(errno.EAGAIN, f"{self.board.rows} processes are there already")
        number = self._rows.pop()
        cells = self.board.row(number)
        ours, theirs = socket.socketpair()
        ask_for_senders(ours)
        title = f"styx: worker {slot}" if kind is Kind.WORKER else f"styx: {kind}"
        try:
            pid = fork(lambda: run(theirs, cells), title=title, keep=[theirs.fileno(), *keep], user=settings.user)
        except OSError:
            ours.close()
            self._rows.append(number)
            raise
        finally:
            theirs.close()
        return Child(kind, slot, pid, MasterEnd(ours, _LEGAL[kind], pid), number, cells)

    def reaped(self, child: Child) -> None:
        """Release what belongs to a child that has ended. The next child in its row adds to the counts there."""
        child.cells.ended()
        child.channel.close()
        self._rows.append(child.row)
