"""Finds the programs that a benchmark needs, and names the packages of those that are missing."""

import os
import shutil

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


def _path(name: str) -> str | None:
    # Daemons lie in sbin, which the PATH of an ordinary user does not have.
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")
