"""A second machine, as far as TCP is concerned: a network namespace behind a link that can be cut.

    this machine 198.18.x.1 ◄── veth ──► 198.18.x.2 network namespace      (RFC 2544: addresses for benchmarks)

Its sockets are opened by a thread that enters the namespace for a moment, and used like any other. When the cable
is pulled, neither end is notified: no FIN, no RST, no ICMP. Needs root and iproute2.
"""

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Thread

CLONE_NEWNET = 0x40000000
PROGRAM = shutil.which("ip") or shutil.which("ip", path="/usr/sbin:/sbin")
_numbers = count()


class NoNamespace(Exception):
    """There can be no other machine here; the text says why."""


class RemoteMachine:
    """See the module, and `remote_machine`."""

    def __init__(self, name: str, here: str, there: str) -> None:
        self._name = name
        self.here = here
        "The address of this machine, as the other one knows it."
        self.there = there
        "The address of the other one."

    def open(self, how: Callable[[], socket.socket]) -> socket.socket:
        """A socket that `how` opens over there. Raises what that raises."""
        return self._inside(how)

    def connect(self, port: int, *, receive_buffer: int = 0) -> socket.socket:
        """A client's socket over there, connected to a port over here. Raises OSError."""

        def connected() -> socket.socket:
            sock = socket.socket()
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.connect((self.here, port))
            sock.setblocking(False)
            return sock

        return self._inside(connected)

    def pull_the_cable(self) -> None:
        """From now on nothing arrives, either way."""
        _ip("-n", self._name, "link", "set", "eth0", "down")

    def _inside(self, how: Callable[[], socket.socket]) -> socket.socket:
        opened: list[socket.socket] = []
        failed: list[Exception] = []

        def enter() -> None:
            try:
                _enter(self._name)
                opened.append(how())
            except Exception as error:  # re-raised in the calling thread
                failed.append(error)

        thread = Thread(target=enter)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return opened[0]


@contextmanager
def remote_machine() -> Iterator[RemoteMachine]:
    """There until the end of the block. Raises NoNamespace."""
    if PROGRAM is None:
        raise NoNamespace("needs ip: install the Debian package iproute2")
    number = next(_numbers)
    name, device = f"styx-{os.getpid()}-{number}", f"sx{os.getpid()}-{number}"
    net = 4 * ((os.getpid() * 8 + number % 8) % (1 << 14))
    here, there = (f"198.18.{net >> 8}.{(net & 255) + n}" for n in (1, 2))
    try:
        _ip("netns", "add", name)
    except OSError as error:
        raise NoNamespace(f"needs root, to make a network namespace: {error}") from error
    try:
        _ip("link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("addr", "add", f"{here}/30", "dev", device)
        _ip("link", "set", device, "up")
        _ip("-n", name, "addr", "add", f"{there}/30", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        yield RemoteMachine(name, here, there)
    finally:
        _ip("netns", "del", name)


def _ip(*words: str) -> None:
    assert PROGRAM is not None
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _enter(name: str) -> None:
    """For the thread that calls this, and only for that."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if libc.setns(handle, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(handle)
