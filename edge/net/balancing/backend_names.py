"""Resolves the host names of backends, so that names that hang hold up nobody else.

`getaddrinfo` takes a thread until the name server answers, or for half a minute if it does not. A loop has four
threads for that, which the core API's own name needs as well: a single site with names of a dead zone would take
all of them. So each resolution here has a thread of its own, the threads of one site are bounded by `LookupShares`,
and a name is resolved once, however many connects wait for it.

What a name resolved to is used for `FRESH` seconds. Later it is resolved again; when that fails for a reason other
than that there is no such name, or takes longer than `WAIT`, its former addresses are used, up to `LONGEST_STALE`
(as with `stale-if-error`, RFC 5861): backends that work need no name server.
"""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from cachetools import LRUCache

from edge.net.routing.lookups.lookup_shares import LookupShares

THREADS: Final = 32
"Resolutions at once. A thread that waits for a name server costs some ten KiB."
FRESH: Final = 1.0
"Seconds for which addresses are used without another resolution; those of many connects at once, in effect."
WAIT: Final = 0.25
"Seconds for which a connect waits for the resolution of a name whose former addresses are known."
LONGEST_STALE: Final = 3600.0
"Seconds for which former addresses are used."
MOST_NAMES: Final = 10_000
"Names whose addresses are remembered."
_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})

Resolve = Callable[[str], Sequence[str]]


def system_addresses(name: str) -> Sequence[str]:
    """The IP addresses of a host name, as the system resolves it. Blocks. Raises OSError."""
    return [str(sockaddr[0]) for *_, sockaddr in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]


class _Known:
    """What a name resolved to when it was resolved last."""

    __slots__ = ("addresses", "at", "in_doubt")

    def __init__(self, addresses: Sequence[str], at: float) -> None:
        self.addresses = addresses
        self.at = at
        self.in_doubt = False
        "Whether a later resolution failed or took long: nobody waits for the next one."


class BackendNames:
    """The host names of the backends of one worker."""

    __slots__ = ("_clock", "_known", "_resolve", "_slots", "_under_way")

    def __init__(
        self, clock: Callable[[], float], *, resolve: Resolve = system_addresses, threads: int = THREADS
    ) -> None:
        """`resolve` blocks, in a thread of its own, and raises OSError."""
        self._clock = clock
        self._resolve = resolve
        self._slots = LookupShares(threads)
        self._known: LRUCache[str, _Known] = LRUCache(MOST_NAMES)
        self._under_way: dict[str, asyncio.Task[Sequence[str]]] = {}

    def __repr__(self) -> str:
        return f"<BackendNames {len(self._known)} known, {len(self._under_way)} under way>"

    async def addresses(self, name: str, site: str) -> Sequence[str]:
        """The IP addresses of this name, for a backend of this site. Raises OSError."""
        known, now = self._known.get(name), self._clock()
        if known is not None and now - known.at < FRESH:
            return known.addresses
        task = self._under_way.get(name) or self._start(name, site)
        if known is None or now - known.at > LONGEST_STALE:
            return await asyncio.shield(task)
        await asyncio.wait((task,), timeout=0.0 if known.in_doubt else WAIT)
        if task.done() and _is_final(task):
            return task.result()
        known.in_doubt = True
        return known.addresses

    def _start(self, name: str, site: str) -> asyncio.Task[Sequence[str]]:
        task = asyncio.get_running_loop().create_task(self._resolve_once(name, site), name=f"resolve {name}")
        self._under_way[name] = task
        task.add_done_callback(lambda task: self._ended(name, task))
        return task

    def _ended(self, name: str, task: asyncio.Task[Sequence[str]]) -> None:
        self._under_way.pop(name, None)
        if not task.cancelled() and task.exception() is None:
            self._known[name] = _Known(task.result(), self._clock())

    async def _resolve_once(self, name: str, site: str) -> Sequence[str]:
        async with self._slots.slot(site, 0):
            return await _in_thread(lambda: self._resolve(name))

    async def close(self) -> None:
        """Wait for no resolution any more. Threads that still wait for a name server end with the process."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_final(task: asyncio.Task[Sequence[str]]) -> bool:
    """Whether the result holds: addresses, or that there is no such name."""
    error = None if task.cancelled() else task.exception()
    if error is None:
        return not task.cancelled()
    return isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME


async def _in_thread(work: Callable[[], Sequence[str]]) -> Sequence[str]:
    """Do this in a daemon thread with all signals blocked: a thread of a pool would keep the process from ending,
    and the signals are for the main thread."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Sequence[str]] = loop.create_future()

    def deliver(result: Sequence[str] | OSError) -> None:
        if future.done():  # cancelled
            return
        if isinstance(result, OSError):
            future.set_exception(result)
        else:
            future.set_result(result)

    def run() -> None:
        result: Sequence[str] | OSError
        try:
            result = work()
        except OSError as error:
            result = error
        except UnicodeError as error:  # of the codec idna, for labels that no name has
            result = socket.gaierror(socket.EAI_NONAME, str(error))
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(deliver, result)

    thread = threading.Thread(target=run, name="resolve", daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    except RuntimeError as error:  # no thread can be started
        raise OSError(str(error)) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return await future
