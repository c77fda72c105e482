"""The attacks of an unprivileged local user on a running styx, one in each process.

`python -m bench.hostile.intruder_acts PLAN RESULT`: two JSON files. It is started as root, becomes the user of the
plan for good, does one act, and writes what it saw: how often each thing happened.
"""

import encodings.idna  # noqa: F401  the library may be out of reach for the user that we become
import errno
import os
import pwd
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import msgspec

TIMEOUT = 5.0
TRIES = 20
ACTIONS = {
    "/v1/reload": b"{}",
    "/v1/upgrade": b"{}",
    "/v1/drains": b'{"kind": "environment", "name": "shop/live", "seconds": 600}',
    "/v1/invalidate": b'{"kind": "all"}',
}
FORGED: tuple[tuple[str, ...], ...] = (
    (),
    ("X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: https"),
    ("Forwarded: for=127.0.0.1;host=localhost", "Via: 1.1 styx"),
    ("X-Real-IP: 127.0.0.1", "X-Styx-Attempt: 1", "X-Styx-Edge: bench"),
    ("Authorization: Bearer", "Origin: http://localhost"),
    ("Authorization: Bearer x",),
    ("Authorization: Basic cm9vdDo=",),
    ("X-HTTP-Method-Override: POST", "Sec-Fetch-Site: same-origin"),
)
"Fields of a request to act, besides the usual ones."
HOSTS = ("localhost", "127.0.0.1", "[::1]", "localhost.")
FRAME = 2 << 20
"Bytes of a message that is announced and sent before any greeting; the protocol's own bound is some times that."
FRAMES_SENT = 100 * FRAME
"Bytes that may be sent to sockets of the control channel in all, so that this machine survives it."
LISTENING = 0x10000
"__SO_ACCEPTCON in the flags of /proc/net/unix."


class ActPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One act."""

    act: str
    user: str
    admin_port: int = 0
    port: int = 0
    "Of a listener for clients."
    pids: list[int] = []
    "Processes of the styx that is meant. There may be others on this machine: they are left alone."
    connections: int = 500
    seconds: float = 5.0
    "How long connections are held."
    directory: str = ""
    "That of the routes."
    victims: list[str] = []


def become(user: str) -> None:
    """For good."""
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    if not entry.pw_uid or os.getuid() != entry.pw_uid:
        raise PermissionError(errno.EPERM, f"{user} is not unprivileged")


def _request(method: str, path: str, host: str, fields: tuple[str, ...], body: bytes) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        *fields,
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _status(sock: socket.socket, request: bytes) -> str:
    """Of the response, or why there is none."""
    try:
        sock.settimeout(TIMEOUT)
        sock.sendall(request)
        head = sock.recv(65536)
    except OSError as error:
        return type(error).__name__
    return head[9:12].decode("latin-1") if head else "closed"


def _acting_requests() -> Iterator[tuple[str, bytes]]:
    for path, body in ACTIONS.items():
        for host in HOSTS:
            for fields in FORGED:
                yield f"POST {path}", _request("POST", path, host, fields, body)
        for method in ("GET", "PUT", "DELETE", "post"):
            if (method, path) != ("GET", "/v1/drains"):
                yield f"{method} {path}", _request(method, path, "localhost", FORGED[-1], body)
        yield f"POST /{path}", _request("POST", f"/{path}", "localhost", (), body)
        yield f"POST {path}/", _request("POST", f"{path}/", "localhost", (), body)


def requests(plan: ActPlan, seen: Counter[str]) -> None:
    """Over TCP: everything that acts, with every forged field; then through styx itself, as by a route that leads
    to the admin address. What was taken once is not requested again."""
    for port, way in ((plan.admin_port, ""), (plan.port, " through the edge")):
        taken: set[str] = set()
        for label, request in _acting_requests():
            if label in taken:
                continue
            try:
                with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
                    status = _status(sock, request)
            except OSError as error:
                status = type(error).__name__
            seen[f"{label}{way}: {status}"] += 1
            if status.startswith("2"):
                taken.add(label)


def _unix_sockets() -> Iterator[tuple[int, str]]:
    """Kind and address of every socket of this machine that listens and has one."""
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and int(fields[3], 16) & LISTENING:
            address = fields[7]
            yield int(fields[4], 16), f"\0{address[1:]}" if address.startswith("@") else address


def _connected(kind: int, address: str, pids: list[int]) -> socket.socket | None:
    """To a socket of these processes, else None. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.settimeout(TIMEOUT)
        for _ in range(TRIES):
            # Too many wait to be accepted when this says EAGAIN.
            if (error := sock.connect_ex(address)) != errno.EAGAIN:
                break
            time.sleep(0.01)
        if error:
            raise OSError(error, os.strerror(error))
        pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    except OSError:
        sock.close()
        raise
    if pid in pids:
        return sock
    sock.close()
    return None


def unix_sockets(plan: ActPlan, seen: Counter[str]) -> None:
    """Every Unix socket of styx: whether it can be connected to, and carries out commands."""
    for kind, address in set(_unix_sockets()):
        shown = address.replace("\0", "@")
        if "styx" not in shown:
            continue
        try:
            sock = _connected(kind, address, plan.pids)
        except OSError as error:
            # Whose it is nobody knows then; that of another styx on this machine is as closed to us.
            seen[f"connect to a socket of styx: {type(error).__name__}"] += 1
            continue
        if sock is not None:
            with closing(sock):
                name = "an abstract socket" if shown.startswith("@") else "a socket file"
                seen[f"connect to {name}: done"] += 1
                seen[f"POST /v1/reload to {name}: {_status(sock, next(_acting_requests())[1])}"] += 1


def signals(plan: ActPlan, seen: Counter[str]) -> None:
    """Signals for the processes, and files of theirs."""
    for pid in plan.pids:
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM):
            seen[f"{number.name}: {_tried(partial(os.kill, pid, number))}"] += 1
    for what, act in (
        ("list the directory of routes", lambda: os.listdir(plan.directory)),
        ("write into it", lambda: Path(plan.directory, "routes.new").open("ab").close()),
        ("replace it", lambda: os.rename(plan.directory, f"{plan.directory}-away")),
    ):
        seen[f"{what}: {_tried(act)}"] += 1


def _tried(act: Callable[[], object]) -> str:
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"


def _frame(number: int) -> bytes:
    """What is sent first over the connection of this number."""
    kinds = (
        struct.pack("!I", FRAME) + b"\x92" * 16,
        struct.pack("!I", 0xFFFFFFFF),
        struct.pack("<I", FRAME),
        os.urandom(512),
        struct.pack("!I", 5) + b"\x95\xa5Hello",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\0",
    )
    return kinds[number % len(kinds)] if number % 4 else kinds[0]


def control(plan: ActPlan, seen: Counter[str]) -> None:
    """Many connections to each abstract socket: garbage, huge messages that never end, and silence."""
    paths = {(kind, address) for kind, address in _unix_sockets() if address.startswith("\0styx")}
    held: list[socket.socket] = []
    sent = 0
    for kind, address in paths:
        for number in range(plan.connections):
            try:
                sock = _connected(kind, address, plan.pids)
            except OSError as error:
                seen[f"not connected: {type(error).__name__}"] += 1
                continue
            if sock is None:
                break
            seen["connected"] += 1
            held.append(sock)
            with suppress(OSError):
                sock.send(_frame(number))
    until = time.monotonic() + plan.seconds
    chunk = bytes(65536)
    for sock in held:
        sock.setblocking(False)
    while time.monotonic() < until:
        for number, sock in enumerate(held):
            if number % 4 == 0 and sent < FRAMES_SENT:
                with suppress(OSError):
                    sent += sock.send(chunk[: FRAME - 1])
        time.sleep(0.02)
    seen["KiB sent"] = sent >> 10
    seen["closed by styx"] = sum(map(_is_closed, held))
    for sock in held:
        sock.close()


def _is_closed(sock: socket.socket) -> bool:
    try:
        while data := sock.recv(65536, socket.MSG_DONTWAIT):
            del data
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def admin_connections(plan: ActPlan, seen: Counter[str]) -> None:
    """Many connections to the admin address: idle ones, heads that never end, bodies that never end."""
    begins = (
        b"",
        b"GET /v1/overview HTTP/1.1\r\nHost: localhost\r\nX-Long: ",
        b"POST /v1/drains HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n",
        b"POST /v1/drains HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nf4240\r\n",
    )
    held: list[tuple[int, socket.socket]] = []
    for number in range(plan.connections):
        try:
            sock = socket.create_connection(("127.0.0.1", plan.admin_port), TIMEOUT)
            sock.sendall(begins[number % len(begins)])
            sock.setblocking(False)
            held.append((number, sock))
            seen["connected"] += 1
        except OSError as error:
            seen[f"not connected: {type(error).__name__}"] += 1
    until, sent = time.monotonic() + plan.seconds, 0
    while time.monotonic() < until:
        for number, sock in held:
            if number % len(begins) and sent < FRAMES_SENT:
                with suppress(OSError):
                    sent += sock.send(b"x" * (16384 if number % len(begins) > 1 else 128))
        time.sleep(0.02)
    seen["KiB sent"] = sent >> 10
    seen["closed by styx"] = sum(_is_closed(sock) for _, sock in held)
    for _, sock in held:
        sock.close()


LINKS = ("routes", "routes.new", "routes.lock", "routes.coming", "routes.old", "routes-more", "routes.d")


def plant(plan: ActPlan, seen: Counter[str]) -> None:
    """As the user of styx, in the directory of the routes: links to files of root in place of what is there."""
    directory = Path(plan.directory)
    for number, name in enumerate(LINKS):
        path = directory / name
        with suppress(OSError):
            path.unlink(missing_ok=True)
        victim = plan.victims[number % len(plan.victims)]
        seen[f"symbolic link: {_tried(partial(path.symlink_to, victim))}"] += 1
    for number, victim in enumerate(plan.victims):
        path = directory / f"routes-hard-{number}"
        seen[f"hard link: {_tried(partial(os.link, victim, path))}"] += 1
    seen[f"replace the directory by a link: {_tried(lambda: os.rename(directory, f'{directory}-away'))}"] += 1


ACTS = {act.__name__: act for act in (requests, unix_sockets, signals, control, admin_connections, plant)}


def main(plan: Path, result: Path) -> None:
    """Read, become the user, act, write."""
    todo = msgspec.json.decode(plan.read_bytes(), type=ActPlan)
    with result.open("wb") as file:
        become(todo.user)
        seen: Counter[str] = Counter()
        ACTS[todo.act](todo, seen)
        file.write(msgspec.json.encode(dict(seen)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
