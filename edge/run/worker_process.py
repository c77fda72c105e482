"""A worker as a process: a loop, the line to the master, the control channel, and a heartbeat."""

import asyncio
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import structlog
import uvloop
from setproctitle import setproctitle

from edge.admin.scoreboard import Row
from edge.net.accept.listener import Listener
from edge.rules.settings import Settings
from edge.rules.settings.file import parse
from edge.run import event_log
from edge.run.control.channel import ChildEnd
from edge.run.control.control_client import ControlClient, Password
from edge.run.control.control_messages import (
    AcceptFor,
    AcceptingStarted,
    ApplySettings,
    Drain,
    Draining,
    Failed,
    Ready,
    Reopen,
    SettingsApplied,
    StartAccepting,
    StopAcceptingFor,
)
from edge.run.routes.route_set_store import RouteSetStore
from edge.run.routes.route_store import RouteStore
from edge.run.sockets.listening_sockets import Accepting
from edge.run.worker import Worker

PUSH_PATIENCE, FIRST_PUSH_PATIENCE = 1.0, 25.0
"Seconds that a new worker waits for the routes of a file: with those that lay on disk, and with none."
T = TypeVar("T")
LEARNED_AT_ONCE = 10_000
"Routes from the file before the loop gets a turn; a microsecond each."

log = structlog.get_logger("styx.worker")


def run(
    settings: Settings,
    *,
    slot: int,
    row: Row,
    accepting: Accepting,
    line: socket.socket,
    password: Password,
    routes: Path,
    sets: RouteSetStore,
) -> int:
    """The whole life of a worker. Returns its exit status."""
    row.begin(slot, os.getpid(), time.monotonic())
    store = RouteStore(routes, settings.routes.capacity)
    process = WorkerProcess(settings, slot, row, ChildEnd(line), store=store, sets=sets)
    return uvloop.run(process.live(accepting, password))


class WorkerProcess:
    """See the module."""

    def __init__(
        self, settings: Settings, slot: int, row: Row, master: ChildEnd, *, store: RouteStore, sets: RouteSetStore
    ) -> None:
        self._store = store
        self._sets = sets
        self._slot = slot
        self._settings = settings
        self._row = row
        self._master = master
        self._leave: asyncio.Future[Drain]
        self._begin: asyncio.Event
        self._now: asyncio.Event
        self._changing: asyncio.Lock
        "Where it accepts."
        self._stood_in: dict[int, list[Listener]] = {}
        "By the slot that it accepts for besides its own."
        self._tasks: set[asyncio.Task[None]] = set()

    async def live(self, accepting: Accepting, password: Password) -> int:
        """Serve until told to go."""
        loop = asyncio.get_running_loop()
        self._begin, self._leave, self._now = asyncio.Event(), loop.create_future(), asyncio.Event()
        self._changing = asyncio.Lock()
        self._worker = worker = Worker(self._settings, row=self._row)
        worker.background.log_unhandled(loop)
        control = ControlClient(worker, self._slot, password)
        # Somebody who tells one worker to end means it: it finishes, and the master starts another.
        loop.add_signal_handler(signal.SIGTERM, lambda: self._go(self._usual_drain))
        await start_deaf_threads()
        try:
            worker.prepare()
            self._master.listen(self._heard)
            control.start()
            if self._settings.core_api.is_pushed:
                await self._take_over_routes(self._settings.core_api.location, control.routes_pushed.up_to_date)
            else:
                await self._learn_what_is_kept()
            settle_memory()
            self._master.tell(Ready())
            await self._begin.wait()
            if not self._leave.done():
                await worker.accept(accepting)
                self._master.tell(AcceptingStarted())
        except OSError as error:
            self._master.tell(Failed(error.strerror or str(error)))
            await control.stop()
            await worker.stop()
            return 1
        drain = await self._leave
        self._master.tell(Draining())
        async with self._changing:  # from now on it stands in for nobody
            pass
        setproctitle(f"styx: worker {self._slot} (leaving)")
        stopping = asyncio.create_task(worker.stop(drain.timeout, drain.idle), name="stop the worker")
        at_once = asyncio.create_task(self._now.wait(), name="told to end at once")
        await asyncio.wait({stopping, at_once}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            stopping.cancel()
            await worker.stop()
        await control.stop()
        return 0

    async def _learn_what_is_kept(self) -> None:
        """Half a million routes take seconds: in a thread, for a worker without a heartbeat would be replaced."""
        gc.disable()  # of what is read nothing is garbage, and to look for some takes a third of the time
        kept = list((await _in_a_deaf_thread(self._store.read)).values())
        for at in range(0, len(kept), LEARNED_AT_ONCE):
            self._worker.context.resolver.learn(kept[at : at + LEARNED_AT_ONCE])
            await asyncio.sleep(0)
        gc.enable()

    async def _take_over_routes(self, location: str, up_to_date: asyncio.Event) -> None:
        """What the others know of this source: from disk, and from the admin process if there is one."""
        pushed = self._worker.context.pushed
        kept = await _in_a_deaf_thread(self._sets.read, location)
        if kept is not None:
            await pushed.replace(kept.version, kept.parts)
        time_limit = PUSH_PATIENCE if pushed.version else FIRST_PUSH_PATIENCE
        waiting = asyncio.create_task(up_to_date.wait(), name="wait for routes")
        either: set[asyncio.Future[Any]] = {waiting, self._leave}
        await asyncio.wait(either, timeout=time_limit, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not pushed.version:
            log.error("routes of the file missing", code="routes_file_missing", file=location)

    def _heard(self, message: Any) -> None:
        match message:
            case None:  # the master is gone: nobody would replace us, nor tell us to end
                self._go(self._usual_drain)
            case StartAccepting():
                self._begin.set()
            case AcceptFor(slot, number):
                came = self._master.take_socket()
                if came is None:
                    log.error("socket of another worker not received", code="socket_not_received", slot=slot)
                else:
                    self._soon(self._stand_in(slot, [(self._settings.listeners[number], came)]))
            case StopAcceptingFor(slot):
                self._soon(self._stand_down(slot))
            case Drain():
                self._go(message)
            case ApplySettings():
                self._obey(message)
            case Reopen():
                self._worker.log.reopen()

    def _soon(self, change: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(change)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stand_in(self, slot: int, accepting: Accepting) -> None:
        async with self._changing:
            if not self._leave.done():
                self._stood_in.setdefault(slot, []).extend(await self._worker.accept(accepting))
                return
            for _, sock in accepting:
                sock.close()

    async def _stand_down(self, slot: int) -> None:
        async with self._changing:
            for listener in self._stood_in.pop(slot, ()):
                await self._worker.accept_no_more(listener)

    @property
    def _usual_drain(self) -> Drain:
        return Drain(self._settings.drain.timeout, self._settings.drain.idle)

    def _go(self, drain: Drain) -> None:
        if not self._leave.done():
            self._leave.set_result(drain)
            self._begin.set()
        elif not drain.timeout:
            self._now.set()

    def _obey(self, order: ApplySettings) -> None:
        why = ""
        try:
            self._settings = parse(order.text, name=order.name, environ=os.environ)
            event_log.configure(self._settings.log)
            self._worker.reconfigure(self._settings)
        except Exception as error:  # told to the operator who reloads; the old settings go on
            log.exception("settings not used", code="settings_not_used")
            why = str(error)
        self._master.tell(SettingsApplied(order.number, why))


async def _in_a_deaf_thread(read: Callable[..., T], *args: object) -> T:
    """Signals are for the main thread."""
    mask = signal.SIG_BLOCK, signal.valid_signals()
    with ThreadPoolExecutor(1, initializer=signal.pthread_sigmask, initargs=mask) as reader:
        return await asyncio.get_running_loop().run_in_executor(reader, read, *args)


async def start_deaf_threads() -> None:
    """Begin the threads that the loop has for looking up names: they take over which signals are blocked now.

    Left to begin later, one of them may be given the SIGABRT of a worker that stood still. While it writes where
    all threads stand, the loop runs on for milliseconds, and accepts connections that end with it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        # libuv begins them all at the first question; one of no particular type is not answered without them.
        await asyncio.get_running_loop().getaddrinfo(b"127.0.0.1", 0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def settle_memory() -> None:
    """What is here now stays: the garbage collector need not look at it again, nor as often as every 700 objects.
    Requests leave no cycles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
