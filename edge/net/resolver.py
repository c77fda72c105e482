"""From a hostname to its route: the table first, then the core API, asked once however many wait.

The fast path is `RouteTable.get` and one comparison, done by the exchange itself. All that is asynchronous
about routes is here.
"""

import asyncio
import logging
from collections.abc import Callable

from edge.net.core_api import CoreApi, CoreApiError
from edge.rules.environments import Environments
from edge.rules.routes import Freshness, Route, RouteTable, may_exist
from edge.rules.settings import CoreApiSettings

PAUSE_AFTER_FAILURE = 2.0
"Seconds, and up to twice as many, before a known hostname is asked for again after a failure."
FORCED_PAUSE = 1.0
FORCED_BURST = 5
"Failing backends can cause so many questions about one hostname at once, and then one every pause (seconds)."
MAX_WAITING = 20_000
"Questions that may wait for their turn; beyond that the answer is lookup_failed at once."

log = logging.getLogger("styx.resolver")


class Resolver:
    """Answers "where is this hostname?" for one worker."""

    def __init__(
        self,
        settings: CoreApiSettings,
        *,
        table: RouteTable,
        environments: Environments,
        core_api: CoreApi,
        clock: Callable[[], float],
        rand: Callable[[], float],
    ) -> None:
        self.table = table
        self.environments = environments
        self.core_api = core_api
        self._settings = settings
        self._clock = clock
        self._rand = rand
        self._asking: dict[str, asyncio.Task[Route | None]] = {}
        self._turns = asyncio.Semaphore(settings.concurrency)

    def obey(self, settings: CoreApiSettings) -> None:
        """Ask by these settings from now on; who waits, waits by the old ones."""
        if settings.concurrency != self._settings.concurrency:
            self._turns = asyncio.Semaphore(settings.concurrency)
        self._settings = settings
        self.core_api.obey(settings)

    def renew_token(self) -> None:
        """The file of the core API's token has changed."""
        self.core_api.obey(self._settings)

    def resolve(self, hostname: str, done: Callable[[Route | None], None]) -> None:
        """Ask the core API. `done` gets the route that holds now, or None: could not ask, and nothing known."""
        if not may_exist(hostname):
            done(Route(None, None, None))
            return
        task = self._ask_once(hostname)
        if task is None:
            done(self._usable(hostname))
        else:
            task.add_done_callback(lambda task: done(None if task.cancelled() else task.result()))

    def refresh(self, hostname: str, route: Route, now: float) -> None:
        """Ask in the background; the caller goes on with what it has. Cheap to call for every stale hit."""
        if hostname not in self._asking and now >= route.quiet_until:
            self._ask_once(hostname)

    def may_force(self, hostname: str, route: Route, now: float) -> bool:
        """Whether a failing backend may make us ask ahead of time, or join who asks. Claims the turn."""
        if hostname in self._asking:
            return True
        # GCRA, the leaky bucket in one number (ITU-T I.371).
        if route.forced_due - now > (FORCED_BURST - 1) * FORCED_PAUSE:
            return False
        route.forced_due = max(route.forced_due, now) + FORCED_PAUSE
        return True

    def ask_ahead(self, hostname: str) -> None:
        """Ask in the background, however fresh the route is: a backend was not where it should be."""
        self._ask_once(hostname)

    async def close(self) -> None:
        """Stop asking."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await self.core_api.close()

    def _ask_once(self, hostname: str) -> asyncio.Task[Route | None] | None:
        task = self._asking.get(hostname)
        if task is None:
            if len(self._asking) >= MAX_WAITING:
                return None
            task = asyncio.get_running_loop().create_task(self._ask(hostname), name=f"ask for {hostname}")
            self._asking[hostname] = task
            task.add_done_callback(lambda _: self._asking.pop(hostname, None))
        return task

    async def _ask(self, hostname: str) -> Route | None:
        """One question with its deadline, which includes the wait for a turn. Never raises."""
        known = self.table.get(hostname)
        etag = known.etag if known is not None and known.answer is not None else None
        try:
            async with asyncio.timeout(self._settings.timeout), self._turns:
                said = await self.core_api.ask(hostname, etag)
        except TimeoutError:
            self.core_api.timed_out()
            return self._failed(hostname, f"no answer within {self._settings.timeout:g} s")
        except CoreApiError as error:
            return self._failed(hostname, str(error))
        except Exception as error:  # a fault of ours must not leave those waiting who asked
            log.exception("fault while asking the core API for %s", hostname)
            return self._failed(hostname, f"{type(error).__name__}: {error}")
        now = self._clock()
        known = self.table.get(hostname)
        if said.not_modified:
            if known is None or known.etag != said.etag:  # evicted or replaced while we asked
                return known
            self.table.renew(known, said.cache_control, now, self._rand())
            return known
        if said.route is None:
            route = Route(None, None, None)
        else:
            environment = self.environments.get(said.route.site, said.route.environment, now)
            route = Route(said.route, environment, said.etag)
        held = self.table.put(hostname, route, said.cache_control, now, self._rand())
        if held is route and held.answer is not None and held.environment is not None:
            held.environment.book.keep_only(backend.id for backend in held.answer.backends)
        return held

    def _failed(self, hostname: str, error: str) -> Route | None:
        log.warning("could not ask the core API for %s: %s", hostname, error)
        route = self._usable(hostname)
        if route is not None:
            route.not_renewed(error, self._clock(), PAUSE_AFTER_FAILURE * (1.0 + self._rand()))
        return route

    def _usable(self, hostname: str) -> Route | None:
        route = self.table.get(hostname)
        return None if route is None or route.freshness(self._clock()) is Freshness.GONE else route
