"""Supervises the background tasks of one process, and restarts those that end.

A task that nobody awaits ends without a message when it raises, and so does a timer that schedules itself again
after its work. Tasks and timers that run here are logged with a code and counted when they fail. A task is started
again after a pause that grows up to half a minute.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from edge.rules.background_tasks import HEALTHY_RUN, BackgroundTask, is_logged, restart_pause

log = logging.getLogger("styx.background")


class Background:
    """The supervisor of one process.

    `count` is called at every failure. `pause` returns the seconds until the restart, from the number of failures
    in a row and a random number. `healthy_run`: seconds after which a failure counts as the first one again.
    """

    def __init__(
        self,
        count: Callable[[BackgroundTask], None] = lambda task: None,
        *,
        rand: Callable[[], float] | None = None,
        pause: Callable[[int, float], float] = restart_pause,
        healthy_run: float = HEALTHY_RUN,
    ) -> None:
        self._count = count
        self._rand = rand or Random().random
        self._pause = pause
        self._healthy_run = healthy_run

    def run(self, task: BackgroundTask, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Do this work until the returned task is cancelled; restart it whenever it ends, even without an error."""
        return asyncio.get_running_loop().create_task(self._supervise(task, work), name=task.value)

    def every(self, task: BackgroundTask, period: float, work: Callable[[], None]) -> "Timer":
        """Do this work every `period` seconds, the first time after one period, until the timer is cancelled."""
        return Timer(task, period, work, self._count)

    def log_unhandled(self, loop: asyncio.AbstractEventLoop) -> None:
        """Log and count errors in callbacks of this loop, and in tasks that nobody awaits."""
        loop.set_exception_handler(self._unhandled)

    async def _supervise(self, task: BackgroundTask, work: Callable[[], Awaitable[None]]) -> None:
        loop, this = asyncio.get_running_loop(), asyncio.current_task()
        assert this is not None
        failures = 0
        while True:
            began = loop.time()
            error: BaseException | None = None
            try:
                await work()
            except asyncio.CancelledError as cancelled:
                if this.cancelling():
                    raise
                error = cancelled  # the awaited task was cancelled, not this one
            except Exception as raised:
                error = raised
            if this.cancelling():  # the work swallowed the cancellation, as some libraries do
                return
            failures = 1 if loop.time() - began >= self._healthy_run else failures + 1
            pause = self._pause(failures, self._rand())
            self._count(task)
            log.error(
                "background task ended",
                exc_info=error,
                extra={
                    "code": "background_task_ended",
                    "task": task.value,
                    "error": _described(error),
                    "in_a_row": failures,
                    "restart_in": round(pause, 3),
                },
            )
            await asyncio.sleep(pause)

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._count(BackgroundTask.OTHER)
        where = context.get("task") or context.get("future") or context.get("handle") or context.get("protocol")
        log.error(
            "unhandled error",
            exc_info=error if isinstance(error, BaseException) else None,
            extra={
                "code": "unhandled_error",
                "error": _described(error) if error is not None else "",
                "details": context.get("message", ""),
                "where": "" if where is None else repr(where)[:500],
            },
        )


class Timer:
    """Work that is done periodically. A failure does not end it."""

    __slots__ = ("_count", "_failures", "_handle", "_loop", "_period", "_task", "_work")

    def __init__(
        self, task: BackgroundTask, period: float, work: Callable[[], None], count: Callable[[BackgroundTask], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = task
        self._period = period
        self._work = work
        self._count = count
        self._failures = 0
        "Failures in a row."
        self._handle = self._loop.call_later(period, self._tick)

    def cancel(self) -> None:
        """Stop the timer."""
        self._handle.cancel()

    def _tick(self) -> None:
        self._handle = self._loop.call_later(self._period, self._tick)
        try:
            self._work()
        except Exception as error:
            self._failures += 1
            self._count(self._task)
            if is_logged(self._failures):
                log.exception(
                    "background timer failed",
                    extra={
                        "code": "background_timer_failed",
                        "task": self._task.value,
                        "error": _described(error),
                        "in_a_row": self._failures,
                    },
                )
        else:
            self._failures = 0


def _described(error: object) -> str:
    """An error as text for a log field, also for a task that ended without one."""
    return f"{type(error).__name__}: {error}".rstrip(": ") if error is not None else "it returned"
