"""The worker process: runs a `Worker` in a loop, and connects it to the master (channel) and to the admin process
(control channel)."""

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
from edge.rules.tls.ticket_chain import TicketChain
from edge.run import event_log
from edge.run.control.channel import ChildEnd
from edge.run.control.control_client import ControlClient
from edge.run.control.control_link import Password
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
from edge.run.recent_events import RecentEvents
from edge.run.routes.route_set_store import RouteSetStore
from edge.run.routes.route_store import RouteStore
from edge.run.sockets.listening_sockets import Accepting
from edge.run.worker import Worker

PUSH_TIMEOUT, FIRST_PUSH_TIMEOUT = 1.0, 25.0
"Seconds that a new worker waits for the routes of a pushed source: if it found saved ones, and if it found none."
PAGES_TIMEOUT = 5.0
"Seconds that a new worker waits for error pages."
T = TypeVar("T")
LEARNED_AT_ONCE = 10_000
"Saved routes that are learned in one turn of the loop; a microsecond each."

log = structlog.get_logger("styx.worker")


def run(
    settings: Settings,
    *,
    slot: int,
    row: Row,
    accepting: Accepting,
    channel: socket.socket,
    password: Password,
    routes: Path,
    sets: RouteSetStore,
    tickets: TicketChain,
) -> int:
    """Run a worker until it ends. Returns its exit status."""
    row.begin(slot, os.getpid(), time.monotonic())
    store = RouteStore(routes, settings.routes.capacity)
    process = WorkerProcess(settings, slot, row, ChildEnd(channel), store=store, sets=sets, tickets=tickets)
    recent_events = RecentEvents(f"worker {slot}")
    recent_events.install()
    return uvloop.run(process.live(accepting, password, recent_events))


class WorkerProcess:
    """A worker, and the messages of the master."""

    def __init__(
        self,
        settings: Settings,
        slot: int,
        row: Row,
        master: ChildEnd,
        *,
        store: RouteStore,
        sets: RouteSetStore,
        tickets: TicketChain,
    ) -> None:
        self._tickets = tickets
        self._store = store
        self._sets = sets
        self._slot = slot
        self._settings = settings
        self._row = row
        self._master = master
        self._drain_order: asyncio.Future[Drain]
        self._may_accept: asyncio.Event
        self._end_now: asyncio.Event
        self._changing: asyncio.Lock
        "Held while the set of its listeners changes."
        self._accepting_for: dict[int, list[Listener]] = {}
        "Its listeners of other slots, by slot."
        self._tasks: set[asyncio.Task[None]] = set()

    async def live(self, accepting: Accepting, password: Password, recent_events: RecentEvents) -> int:
        """Serve until the master, its end, or SIGTERM drains this worker. Returns the exit status."""
        loop = asyncio.get_running_loop()
        self._may_accept, self._drain_order, self._end_now = asyncio.Event(), loop.create_future(), asyncio.Event()
        self._changing = asyncio.Lock()
        self._worker = worker = Worker(self._settings, row=self._row, tickets=self._tickets)
        worker.background.log_unhandled(loop)
        control = ControlClient(worker, self._slot, password, recent_events=recent_events)
        # A SIGTERM to one worker is meant for that worker: it drains, and the master starts another.
        loop.add_signal_handler(signal.SIGTERM, lambda: self._drain(self._default_drain))
        await start_resolver_threads()
        try:
            worker.prepare()
            self._master.listen(self._received)
            control.start()
            if self._settings.core_api.is_pushed:
                await self._take_over_routes(self._settings.core_api.location, control.routes_pushed.up_to_date)
            else:
                await self._learn_saved_routes()
            if self._settings.pages.directory is not None:
                await self._wait_for_pages()
            settle_memory()
            self._master.send(Ready())
            await self._may_accept.wait()
            if not self._drain_order.done():
                await worker.accept(accepting)
                self._master.send(AcceptingStarted())
        except OSError as error:
            self._master.send(Failed(error.strerror or str(error)))
            await control.stop()
            await worker.stop()
            return 1
        drain = await self._drain_order
        self._master.send(Draining())
        async with self._changing:  # from now on it accepts for no other slot
            pass
        setproctitle(f"styx: worker {self._slot} (leaving)")
        stopping = asyncio.create_task(worker.stop(drain.timeout, drain.idle), name="stop the worker")
        at_once = asyncio.create_task(self._end_now.wait(), name="end at once")
        await asyncio.wait({stopping, at_once}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            stopping.cancel()
            await worker.stop()
        await control.stop()
        return 0

    async def _learn_saved_routes(self) -> None:
        """Learn the routes on disk. Half a million take seconds: they are read in a thread, because a worker
        without a heartbeat would be replaced."""
        gc.disable()  # nothing that is read is garbage, and collecting takes a third of the time
        saved = list((await _in_thread(self._store.read)).values())
        for at in range(0, len(saved), LEARNED_AT_ONCE):
            self._worker.context.resolver.learn(saved[at : at + LEARNED_AT_ONCE])
            await asyncio.sleep(0)
        gc.enable()

    async def _take_over_routes(self, location: str, up_to_date: asyncio.Event) -> None:
        """Take over the routes of this pushed source: from disk, and from the admin process if there is one."""
        pushed = self._worker.context.pushed
        saved = await _in_thread(self._sets.read, location)
        if saved is not None:
            await pushed.replace(saved.version, saved.parts)
        time_limit = PUSH_TIMEOUT if pushed.version else FIRST_PUSH_TIMEOUT
        waiting = asyncio.create_task(up_to_date.wait(), name="wait for routes")
        either: set[asyncio.Future[Any]] = {waiting, self._drain_order}
        await asyncio.wait(either, timeout=time_limit, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not pushed.version:
            log.error("routes of the routes file missing", code="routes_file_missing", file=location)

    async def _wait_for_pages(self) -> None:
        """Wait until the admin process has sent the error pages; without them, the built-in page is used."""
        waiting = asyncio.create_task(self._worker.pages_known.wait(), name="wait for error pages")
        either: set[asyncio.Future[Any]] = {waiting, self._drain_order}
        await asyncio.wait(either, timeout=PAGES_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    def _received(self, message: Any) -> None:
        match message:
            case None:  # the master is gone: nobody would replace this worker, or drain it
                self._drain(self._default_drain)
            case StartAccepting():
                self._may_accept.set()
            case AcceptFor(slot, number):
                sock = self._master.take_socket()
                if sock is None:
                    log.error(
                        "listening socket of another worker not received", code="socket_not_received", slot=slot
                    )
                else:
                    self._run(self._accept_for(slot, [(self._settings.listeners[number], sock)]))
            case StopAcceptingFor(slot):
                self._run(self._stop_accepting_for(slot))
            case Drain():
                self._drain(message)
            case ApplySettings():
                self._apply_settings(message)
            case Reopen():
                self._worker.log.reopen()

    def _run(self, change: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(change)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept_for(self, slot: int, accepting: Accepting) -> None:
        async with self._changing:
            if not self._drain_order.done():
                self._accepting_for.setdefault(slot, []).extend(
                    await self._worker.accept(accepting, for_another=True)
                )
                return
            for _, sock in accepting:
                sock.close()

    async def _stop_accepting_for(self, slot: int) -> None:
        async with self._changing:
            for listener in self._accepting_for.pop(slot, ()):
                await self._worker.stop_accepting(listener)

    @property
    def _default_drain(self) -> Drain:
        return Drain(self._settings.drain.timeout, self._settings.drain.idle)

    def _drain(self, drain: Drain) -> None:
        """Drain; a second call without a timeout ends the worker at once."""
        if not self._drain_order.done():
            self._drain_order.set_result(drain)
            self._may_accept.set()
        elif not drain.timeout:
            self._end_now.set()

    def _apply_settings(self, message: ApplySettings) -> None:
        why = ""
        try:
            self._settings = parse(message.text, name=message.name, environ=os.environ)
            event_log.configure(self._settings.log)
            self._worker.reconfigure(self._settings)
        except Exception as error:  # reported to the operator who reloads
            log.exception("settings not used", code="settings_not_used")
            why = str(error)
        self._master.send(SettingsApplied(message.number, why))


async def _in_thread(read: Callable[..., T], *args: object) -> T:
    """Call this in a thread that receives no signals: the main thread handles them."""
    mask = signal.SIG_BLOCK, signal.valid_signals()
    with ThreadPoolExecutor(1, initializer=signal.pthread_sigmask, initargs=mask) as reader:
        return await asyncio.get_running_loop().run_in_executor(reader, read, *args)


async def start_resolver_threads() -> None:
    """Start the threads in which the loop resolves names, with all signals blocked: they inherit the mask.

    Started later, one of them could receive the SIGABRT that a stalled worker gets. While it writes the traces of
    all threads, the loop runs on for milliseconds and accepts connections that end with the process.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        # libuv starts all of them at the first lookup; without a socket type a lookup always goes to them.
        await asyncio.get_running_loop().getaddrinfo(b"127.0.0.1", 0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def settle_memory() -> None:
    """Exempt all present objects from garbage collection, and collect less often than every 700 objects: requests
    leave no cycles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
