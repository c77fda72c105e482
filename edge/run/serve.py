"""`styx serve`: one worker and the admin server in one process, from open sockets to the last request."""

import asyncio
import contextlib
import gc
import resource
import signal
import socket
from pathlib import Path

import structlog
from setproctitle import setproctitle

from edge.admin.admin_server import AdminServer
from edge.admin.health import Health
from edge.admin.metrics import new_registry
from edge.net.listener import open_listener
from edge.rules.settings import Settings
from edge.run.worker import Worker

log = structlog.get_logger("styx.serve")

OTHER_FILES = 256
"Open files besides the connections of clients and the idle ones to backends: listeners, logs, admin, core API."


class CannotServe(Exception):
    """styx cannot start; the text says what is in the way."""


def open_listeners(settings: Settings) -> list[socket.socket]:
    """All listening sockets, or none. Raises CannotServe."""
    sockets: list[socket.socket] = []
    try:
        sockets.extend(open_listener(listener) for listener in settings.listeners)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise CannotServe(error.strerror or str(error)) from error
    return sockets


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in hand. A second signal ends at once.

    Raises CannotServe.
    """
    setproctitle("styx: worker")
    health = Health()
    sockets = open_listeners(settings)
    worker = Worker(settings)
    admin = AdminServer(
        settings.admin.address,
        health=health,
        registry=new_registry(worker.tally, worker.snapshot, worker.log),
        snapshot=worker.snapshot,
        explain=worker.explain,
        token=_token(settings.admin.token_file),
    )
    told_to_stop = stop_signals()
    try:
        await worker.start(sockets)
        await admin.start()
    except OSError as error:
        await worker.stop(0.0)
        raise CannotServe(error.strerror or str(error)) from error
    raise_open_files(settings)
    # What is here now stays: the garbage collector need not look at it again, nor as often as every 700 objects.
    # Requests leave no cycles behind.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    health.opened()
    log.info("serving", listeners=[str(item.address) for item in settings.listeners], admin=str(admin.address))
    await told_to_stop.wait()
    health.drain("told to stop")
    log.info("stopping", in_hand=worker.services.counts.exchanges)
    told_to_stop.clear()
    stopping = asyncio.create_task(worker.stop(), name="stop the worker")
    again = asyncio.create_task(told_to_stop.wait(), name="second signal")
    await asyncio.wait({stopping, again}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        stopping.cancel()
        await worker.stop(0.0)
    again.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await stopping
    await admin.stop()


def raise_open_files(settings: Settings) -> None:
    """Allow ourselves as many open files as the system lets us have. Warn when the limits promise more.

    Beyond it the loop accepts and closes at once (libuv keeps a spare file for that): nobody is told why.
    """
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            allowed = most
        except (OSError, ValueError) as error:
            log.warning("cannot raise the limit of open files", error=str(error))
    needed = settings.limits.connections + settings.pool.idle_total + OTHER_FILES
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        log.warning(
            "too few open files for limits.connections: raise their hard limit (LimitNOFILE in systemd, nofile in "
            "limits.conf, --ulimit nofile for a container), or lower limits.connections",
            allowed=allowed,
            needed=needed,
        )


def stop_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told


def _token(path: str | None) -> str:
    """Raises CannotServe when there should be a token and is none."""
    if path is None:
        return ""
    try:
        token = Path(path).read_text().strip()
    except OSError as error:
        raise CannotServe(f"admin.token_file: {error.strerror}: {path}") from error
    if not token:
        raise CannotServe(f"admin.token_file: {path} is empty")
    return token
