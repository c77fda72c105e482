"""Finds the programs that a benchmark needs, and names the packages of those that are missing."""

import asyncio
import os
import shutil
from collections.abc import Callable

from edge.platform.child_process import ChildProcess

PACKAGES = {
    "h2load": "nghttp2-client",
    "haproxy": "haproxy",
    "nginx": "nginx-light",
    "taskset": "util-linux",
    "valgrind": "valgrind",
    "wrk": "wrk",
}
"Each program with the Debian package it is in."


class BenchFailed(Exception):
    """A benchmark cannot be run, or what it measured is worth nothing; the text says why and what to do."""


def need(*names: str) -> None:
    """Raises BenchFailed naming the Debian packages of all programs that are missing."""
    missing = [PACKAGES[name] for name in names if _path(name) is None]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise BenchFailed(
            f"needs the Debian package{plural} {', '.join(missing)}: apt-get install {' '.join(missing)}"
        )


def program(name: str) -> str:
    """Where it is. Raises BenchFailed."""
    need(name)
    return _path(name) or name


async def end_of(child: ChildProcess, seconds: float, late: Callable[[], str]) -> None:
    """Wait until a child ends by itself; it is killed after so many seconds, and when this is cancelled. Raises
    BenchFailed with the text of `late` if it had to be killed."""
    try:
        async with asyncio.timeout(seconds):
            await child.ended.wait()
    except TimeoutError:
        raise BenchFailed(late()) from None
    finally:
        child.kill()
        await child.ended.wait()


def _path(name: str) -> str | None:
    # Daemons lie in sbin, which the PATH of an ordinary user does not have.
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")
