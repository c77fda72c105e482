"""The listening sockets of an edge. The master opens them and holds them until it ends.

There is one SO_REUSEPORT socket for each address and worker slot: the kernel spreads connections over them, and
connections that wait in the socket of a worker that died wait for its successor. (Measured: of 300 waiting
connections 138 were reset when the socket was closed, none when another process held it.) A Unix socket, or one
that systemd opened, is shared by all workers; so is a socket whose slot no longer exists, until the master ends:
closing it would reset the connections that wait in it.
"""

import json
import os
import socket
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from edge.admin.admin_server import BACKLOG
from edge.net.accept.listener import open_listener
from edge.rules.settings import ListenerSettings, Settings
from edge.rules.settings.values import Address
from edge.rules.settings.values import address as parsed_address
from edge.run.files.as_user import is_roots_own, socket_from, text_from
from edge.run.sockets.admin_socket import directories, file_name, prepare

log = structlog.get_logger("styx.master")

Accepting = list[tuple[ListenerSettings, socket.socket]]
"The sockets that one worker accepts on, each with the settings of its listener."


class Held(NamedTuple):
    """The sockets of one address."""

    address: Address
    "As written in the configuration."
    sockets: list[socket.socket]
    by_slot: bool
    "Whether each worker has a socket of its own. Otherwise there is one for all."
    ours: bool = True
    "Whether an edge opened it: then the file of a Unix socket is removed when it is closed."


class Sockets:
    """The sockets of the listeners, in their order, and of the admin server. `user`: see `files/as_user.py`."""

    def __init__(
        self, listeners: list[Held], admin: Held, admin_socket: Held | None = None, *, user: str = ""
    ) -> None:
        self.listeners = listeners
        self.admin = admin
        self.admin_socket = admin_socket
        "The Unix socket beside `admin`, over which commands are permitted."
        self._user = user

    def __iter__(self) -> Iterator[socket.socket]:
        for held in self.every:
            yield from held.sockets

    @property
    def every(self) -> tuple[Held, ...]:
        return (*self.listeners, *self.of_admin)

    @property
    def of_admin(self) -> tuple[Held, ...]:
        """The sockets that the admin process accepts on."""
        return (self.admin,) if self.admin_socket is None else (self.admin, self.admin_socket)

    def for_worker(self, slot: int, workers: int, listeners: Iterable[ListenerSettings]) -> Accepting:
        """The sockets that the worker of this slot, one of `workers`, accepts on: of each listener first its own,
        then those of slots that no longer exist."""
        return [
            (listener, sock)
            for listener, held in zip(listeners, self.listeners, strict=True)
            for number, sock in enumerate(held.sockets)
            if not held.by_slot or number == slot or number >= workers
        ]

    def of_worker(self, slot: int) -> dict[int, socket.socket]:
        """The sockets that the worker of this slot accepts on, alone or with others, by number of the listener."""
        return {n: held.sockets[slot if held.by_slot else 0] for n, held in enumerate(self.listeners)}

    def of_slot(self, slot: int) -> dict[int, socket.socket]:
        """The sockets that only the worker of this slot accepts on, by number of the listener."""
        return {n: held.sockets[slot] for n, held in enumerate(self.listeners) if held.by_slot}

    def close_all_but(self, others: "Sockets | None" = None) -> None:
        """Close the sockets that `others` does not hold, and remove the files of Unix sockets."""
        stays = set(others or ())
        files = {sock.getsockname() for sock in stays if sock.family == socket.AF_UNIX}
        for held in self.every:
            for sock in held.sockets:
                if sock in stays:
                    continue
                if held.ours and sock.family == socket.AF_UNIX and sock.getsockname() not in files:
                    _remove(sock, self._user)
                sock.close()

    def close_listeners(self) -> None:
        """Close the sockets of the listeners. Workers that hold one take what waits in it, and close it."""
        for held in self.listeners:
            for sock in held.sockets:
                if held.ours and sock.family == socket.AF_UNIX:
                    _remove(sock, self._user)
                sock.close()
        self.listeners = []

    def handed_over(self) -> str:
        """The text for the environment of a new master, which inherits the descriptors; `take_over` reads it."""
        for sock in self:
            sock.set_inheritable(True)
        return json.dumps([[description_of(held), [sock.fileno() for sock in held.sockets]] for held in self.every])

    def leave_files(self) -> None:
        """Leave the files of Unix sockets: another edge uses them now."""
        self.listeners = [held._replace(ours=False) for held in self.listeners]
        self.admin = self.admin._replace(ours=False)
        if self.admin_socket is not None:
            self.admin_socket = self.admin_socket._replace(ours=False)


def _remove(sock: socket.socket, user: str) -> None:
    """Remove the file of a Unix socket; in a directory that not only root can change, with the rights of this
    user."""
    name = sock.getsockname()
    if not isinstance(name, str) or not name:
        return

    def unlink() -> str:
        if stat.S_ISSOCK(os.lstat(name).st_mode):
            os.unlink(name)
        return ""

    with suppress(OSError):  # removed already, or not permitted
        text_from("" if is_roots_own(os.path.dirname(name)) else user, unlink)


def _open(address: Address, user: str, *, beside: bool, private: bool) -> socket.socket:
    """Open a listening socket (`open_listener`). A Unix socket in a directory that not only root can change is
    opened with the rights of this user."""
    if not address.path or is_roots_own(os.path.dirname(address.path)):
        user = ""
    return socket_from(user, lambda: open_listener(address, beside=beside, private=private))


class Spare:
    """Open sockets that a configuration may use: from the previous configuration, another master, or systemd."""

    def __init__(self, held: list[Held]) -> None:
        self._held = held

    def __contains__(self, address: object) -> bool:
        """Whether there is a socket for this address."""
        return isinstance(address, Address) and any(
            _same_address(held.address, address) and _can_be_reached(held) for held in self._held
        )

    def take(self, address: Address) -> Held | None:
        """Take the sockets of this address out of the spare ones; None = there are none."""
        return self._take(lambda held: _same_address(held.address, address))

    def take_file(self, name: str) -> Held | None:
        """Take a Unix socket whose file has this name, in any directory; None = there is none."""
        return self._take(lambda held: Path(held.address.path).name == name)

    def _take(self, wanted: Callable[[Held], bool]) -> Held | None:
        for number, held in enumerate(self._held):
            if wanted(held) and _can_be_reached(held):
                return self._held.pop(number)
        return None

    def close(self) -> list[str]:
        """Close the sockets that were not taken. Returns their addresses."""
        for held in self._held:
            for sock in held.sockets:
                sock.close()
        return [str(held.address) for held in self._held]


def spare_of(sockets: Sockets) -> Spare:
    """The sockets of the present configuration, for a new one. None is closed here."""
    return Spare(list(sockets.every))


def take_over(text: str) -> Spare:
    """The sockets that the previous master hands over (`Sockets.handed_over`)."""
    return Spare([adopted(about, descriptors) for about, descriptors in json.loads(text)])


def description_of(held: Held) -> dict[str, object]:
    """The fields of `held` but its descriptors, for another process."""
    return {"address": str(held.address), "by_slot": held.by_slot, "ours": held.ours}


def adopted(about: dict[str, Any], descriptors: Iterable[int]) -> Held:
    """The sockets with these descriptors, received from another process with their `description_of`."""
    sockets = [socket.socket(fileno=number) for number in descriptors]
    for sock in sockets:
        sock.set_inheritable(False)
        sock.setblocking(False)
    return Held(parsed_address(about["address"]), sockets, about["by_slot"], about["ours"])


def from_descriptors(descriptors: Iterable[int]) -> Spare:
    """The sockets that systemd hands over, each by the address it is bound to."""
    held = []
    for number in descriptors:
        sock = socket.socket(fileno=number)
        sock.set_inheritable(False)
        sock.setblocking(False)
        held.append(Held(_bound(sock), [sock], by_slot=False, ours=False))
    return Spare(held)


def open_sockets(
    settings: Settings, workers: int, spare: Spare, *, admin_directories: Sequence[Path] | None = None
) -> Sockets:
    """Open all sockets of these settings, or none. Raises OSError, with the address in its text.

    Sockets of `spare` are used; others are opened where a slot has none. `admin_directories`: the directories for
    the admin socket if the settings do not set one; by default those of the environment (`directories`).
    """
    if admin_directories is None:
        admin_directories = directories(os.environ, os.geteuid())
    opened: list[socket.socket] = []
    user = settings.user
    try:
        listeners = [_complete(listener.address, workers, spare, opened, user) for listener in settings.listeners]
        admin = _complete(settings.admin.address, 1, spare, opened, user, private=True)
        admin_socket = _admin_socket(settings, admin, spare, opened, admin_directories)
        for held in (admin, admin_socket):
            if held is not None:
                _listen(held)
    except OSError:
        for sock in opened:
            if sock.family == socket.AF_UNIX:
                _remove(sock, user)
            sock.close()
        raise
    return Sockets(listeners, admin, admin_socket, user=user)


def _admin_socket(
    settings: Settings, admin: Held, spare: Spare, opened: list[socket.socket], where: Sequence[Path]
) -> Held | None:
    """The admin socket. None when the admin address is a Unix socket itself, or when the settings do not set one
    and none can be opened."""
    user, wanted = settings.user, settings.admin.socket_address
    if wanted is not None:
        return _complete(wanted, 1, spare, opened, user, private=True)
    if settings.admin.address.path:
        return None
    name = file_name(admin.sockets[0])
    if (held := spare.take_file(name)) is not None:
        return held
    faults = []
    for directory in where:
        try:
            prepare(directory)
            return _complete(Address(path=str(directory / name)), 1, spare, opened, user, private=True)
        except OSError as error:
            faults.append(f"{directory}: {error.strerror}")
    if faults:
        log.warning("admin socket unavailable", code="admin_socket_unavailable", tried=faults)
    return None


def _listen(held: Held) -> None:
    """Let connections wait from now on, so that a command right after a reload is not refused while the admin
    process that accepts on a new socket is still starting."""
    for sock in held.sockets:
        try:
            sock.listen(BACKLOG)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {held.address}: {error.strerror}") from error


def _complete(
    address: Address, workers: int, spare: Spare, opened: list[socket.socket], user: str, *, private: bool = False
) -> Held:
    held = spare.take(address)
    if held is None:
        held = Held(address, [], by_slot=not address.path)
    sockets = list(held.sockets)
    while len(sockets) < (workers if held.by_slot else 1):
        first = sockets[0].getsockname() if sockets else None
        bound = Address(address.host, first[1]) if first is not None else address
        opened.append(_open(bound, user, beside=bool(sockets), private=private))
        sockets.append(opened[-1])
    return held._replace(address=address, sockets=sockets)


def _bound(sock: socket.socket) -> Address:
    name = sock.getsockname()
    if isinstance(name, tuple):
        return Address(str(name[0]), int(name[1]))
    return Address(path=name.decode() if isinstance(name, bytes) else name)


def _can_be_reached(held: Held) -> bool:
    """Whether the file of a Unix socket still exists: it may have been removed with its directory."""
    return not (held.ours and held.address.path) or Path(held.address.path).is_socket()


def _same_address(one: Address, other: Address) -> bool:
    everywhere = {"", "::"}
    hosts = {one.host, other.host}
    return one.port == other.port and one.path == other.path and (len(hosts) == 1 or hosts <= everywhere)
