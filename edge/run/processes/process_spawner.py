"""The children of the master: who they are, how they are started, how they ended."""

import errno
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from edge.admin.scoreboard import Row, Scoreboard
from edge.rules.route_sets.route_set_records import RouteSet
from edge.rules.settings import Settings
from edge.run import admin_process, worker_process
from edge.run.control.channel import MasterEnd
from edge.run.control.control_client import Password
from edge.run.control.control_messages import AdminToMaster, FromChild, Message, RoutesTaken, WorkerToMaster
from edge.run.control.peer_credentials import ask_for_senders
from edge.run.processes.fork import fork
from edge.run.routes.route_set_store import RouteSetStore
from edge.run.sockets.listening_sockets import Sockets

ABORTED = 1.0
"Seconds that a stalled process has to write where it stands, before it is killed."


class Kind(StrEnum):
    """What a child does."""

    WORKER = "worker"
    ADMIN = "admin"


class Child:
    """One process, as the master sees it."""

    def __init__(self, kind: Kind, slot: int, pid: int, line: MasterEnd, row: int, cells: Row) -> None:
        self.kind = kind
        self.slot = slot
        self.pid = pid
        self.line = line
        self.row = row
        self.cells = cells
        self.born = time.monotonic()
        self.ready = False
        self.begun = False
        "It accepts."
        self.obeyed = 0
        "The number of the settings that it has taken."
        self.routes_taken: RoutesTaken | None = None
        "What came of the last order to take routes over."
        self.why = ""
        "Why it could not do its work, in its own words."
        self.status: int | None = None
        "As waitpid gave it; None while it lives."

    def __repr__(self) -> str:
        return f"<{self.title} {self.pid}>"

    @property
    def title(self) -> str:
        return f"worker {self.slot}" if self.kind is Kind.WORKER else "admin process"

    @property
    def alive(self) -> bool:
        return self.status is None

    @property
    def how_it_ended(self) -> str:
        """For the event log."""
        if self.status is None:
            return "it still runs"
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            return f"killed by {signal.Signals(number).name}"
        return f"exit status {os.waitstatus_to_exitcode(self.status)}"

    def silent_for(self, now: float) -> float:
        """Seconds since its heart was last heard, or since it was started."""
        return now - max(self.cells.heartbeat, self.born)

    def tell(self, message: Message, along: socket.socket | None = None) -> bool:
        return self.alive and self.line.tell(message, along)

    def read(self) -> list[FromChild]:
        return self.line.read()

    def signal(self, *numbers: signal.Signals) -> None:
        """Nothing when it is gone."""
        if self.alive:
            for number in numbers:
                os.kill(self.pid, number)


class ProcessSpawner:
    """Starts children. Each worker process has a row of the board to itself; the master's own is row 0."""

    def __init__(self, board: Scoreboard, first_routes: RouteSet | None = None) -> None:
        self.board = board
        self.first_routes = first_routes
        "What the children have of a file of routes, if nothing of it is kept."
        self._rows = list(range(board.rows - 1, 0, -1))
        # An abstract address: no file to clean up. Who does not know the secret is not let in.
        self._password = Password(f"\0styx-{os.getpid()}-{secrets.token_hex(8)}", secrets.token_bytes(16))
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.bind(self._password.address)
        self._control.listen(1024)
        self._control.setblocking(False)

        self.routes: Path
        "Where the children keep routes."

    def worker(self, slot: int, workers: int, settings: Settings, sockets: Sockets) -> Child:
        """A worker for this slot of so many. Raises OSError when there can be no more processes."""
        accepting = sockets.for_worker(slot, workers, settings.listeners)
        keep = [sock.fileno() for _, sock in accepting]

        def run(line: socket.socket, row: Row) -> int:
            return worker_process.run(
                settings,
                slot=slot,
                row=row,
                accepting=accepting,
                line=line,
                password=self._password,
                routes=self.routes,
                sets=RouteSetStore(self.routes, self.first_routes),
            )

        return self._start(Kind.WORKER, slot, settings, keep, run)

    def admin(self, settings: Settings, sockets: Sockets) -> Child:
        """The admin process. Raises OSError when there can be no more processes."""
        [sock, *more] = [sock for held in sockets.of_admin for sock in held.sockets]

        def run(line: socket.socket, row: Row) -> int:
            return admin_process.run(
                settings,
                board=self.board,
                row=row,
                sock=sock,
                admin_socket=more[0] if more else None,
                line=line,
                control=self._control,
                secret=self._password.secret,
                routes=self.routes,
                sets=RouteSetStore(self.routes, self.first_routes),
            )

        keep = [each.fileno() for each in (sock, *more, self._control)]
        return self._start(Kind.ADMIN, 0, settings, keep, run)

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
        title = f"styx: worker {slot}" if kind is Kind.WORKER else "styx: admin"
        try:
            pid = fork(lambda: run(theirs, cells), title=title, keep=[theirs.fileno(), *keep], user=settings.user)
        except OSError:
            ours.close()
            self._rows.append(number)
            raise
        finally:
            theirs.close()
        legal = WorkerToMaster if kind is Kind.WORKER else AdminToMaster
        return Child(kind, slot, pid, MasterEnd(ours, legal, pid), number, cells)

    def buried(self, child: Child) -> None:
        """It has ended, and its row is free for another, who goes on adding to the counts in it."""
        child.cells.ended()
        child.line.close()
        self._rows.append(child.row)
