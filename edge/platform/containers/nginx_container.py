"""An nginx container: nginx with a small queue before php-fpm, as processes on a loopback port.

Both inherit their listening sockets from the platform: nginx through `NGINX=<fd>;`, php-fpm through
`FPM_SOCKETS=<path>=<fd>`. So the port is known before its server runs, nothing is polled while it starts, and
sleeping is socket activation: the platform holds the socket, and when a first connection makes it readable, it
starts the processes with this socket. The connection waits in the accept queue meanwhile.

As root everything runs as root, because the files may be where no other user can read; this is test equipment.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import structlog

from edge.platform.child_process import ChildProcess
from edge.platform.containers.container import (
    Activity,
    ContainerFailed,
    ContainerSpec,
    ContainerTls,
    Faults,
    OnStateChange,
    State,
)
from edge.platform.containers.nginx_files import READY_PATH, fpm_backlog, write_files, write_nginx_conf
from edge.platform.reserved_port import BACKLOG, ReservedPort, until_all_are_accepted

START_DEADLINE = 10.0
"Seconds within which nginx and php-fpm must respond."

STOP_DEADLINE = 5.0
"Seconds for requests in flight before SIGKILL."

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Binaries:
    """Paths of the two servers."""

    nginx: str
    php_fpm: str

    @classmethod
    def find(cls) -> "Binaries":
        """Find both. Raises ContainerFailed with the names of the missing Debian packages."""
        search = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"
        nginx = shutil.which("nginx", path=search)
        php_fpm = shutil.which("php-fpm", path=search)
        if php_fpm is None:
            versions = sorted(Path("/usr/sbin").glob("php-fpm*"))
            php_fpm = str(versions[-1]) if versions else None
        if nginx is None or php_fpm is None:
            missing = [name for name, path in (("nginx-light", nginx), ("php-fpm", php_fpm)) if path is None]
            raise ContainerFailed(
                f"containers of make nginx need the Debian package{'s' * (len(missing) > 1)} "
                f"{' and '.join(missing)}: apt-get install {' '.join(missing)}"
            )
        return cls(nginx, php_fpm)


class NginxContainer:
    """A `Container` of nginx and php-fpm. Its spec must have a directory."""

    def __init__(self, spec: ContainerSpec, *, on_state_change: OnStateChange | None = None) -> None:
        if spec.directory is None:
            raise ValueError("an nginx container needs a directory of its own")
        self.spec = spec
        self.state: State = "running"
        self._dir = spec.directory
        self._on_state_change = on_state_change
        self._reserved_port: ReservedPort | None = None
        self._asleep: socket.socket | None = None
        "The listening socket while the container sleeps."
        self._held: socket.socket | None = None
        """The listening socket that nginx has inherited. The platform holds it too, so that connections wait in its
        queue after nginx has ended for the container to sleep."""
        self._nginx: ChildProcess | None = None
        self._old: tuple[ChildProcess | None, socket.socket | None, ReservedPort | None] = (None, None, None)
        "Until `leave_old_port`: nginx, its listening socket and the port before the last move."
        self._watches: set[asyncio.Task[None]] = set()
        self._fpm: ChildProcess | None = None
        self._started_at = 0.0
        "Seconds since the epoch, as the times of its files."
        self._waking: asyncio.Future[None] | None = None

    @property
    def port(self) -> int:
        return self._reserved_port.port if self._reserved_port else self.spec.port

    @property
    def listening(self) -> bool:
        return self._asleep is not None or (self._nginx is not None and not self._nginx.ended.is_set())

    @property
    def executed(self) -> Counter[str]:
        with contextlib.suppress(FileNotFoundError):
            return Counter((self._dir / "orders.log").read_text().split())
        return Counter()

    def activity(self) -> Activity:
        """PHP tells of each request; static files do not count, and those in flight are not known."""
        last_at, request = self._started_at, ""
        with contextlib.suppress(OSError):
            path = self._dir / "last_request"
            request, last_at = path.read_text(errors="replace"), max(last_at, path.stat().st_mtime)
        idle = max(0.0, time.time() - last_at)
        return Activity(idle, last_request=request, booting=self._waking is not None)

    def faults(self) -> Faults:
        slow = 1.0
        with contextlib.suppress(OSError, ValueError):
            slow = float((self._dir / "slow").read_text())
        return Faults((self._dir / "full").exists(), slow)

    async def start(self) -> None:
        if self.listening:
            return await self.wake()
        try:
            await self._run(await self._listen())
        except BaseException:
            await self._terminate()
            raise
        self._enter_state("running")
        return None

    async def sleep(self) -> None:
        if self._waking is not None:
            await asyncio.shield(self._waking)
        await self._quit_processes()
        if self._asleep is None:
            self._asleep, self._held = self._held or await self._listen(), None
            asyncio.get_running_loop().add_reader(self._asleep.fileno(), self._on_first_request)
        self._enter_state("asleep")

    async def wake(self) -> None:
        if self._asleep is not None and self._waking is None:
            self._on_first_request()
        if self._waking is not None:
            await asyncio.shield(self._waking)

    async def stop(self) -> None:
        await self._end_waking()
        self._close_asleep()
        await self.leave_old_port()
        await self._quit_processes()
        await self._terminate()

    async def kill(self) -> None:
        await self._end_waking()
        self._close_asleep()
        await self._terminate()

    async def _terminate(self) -> None:
        self._close_held()
        for process in (self._nginx, self._old[0], self._fpm):
            if process:
                await process.kill_and_wait()
        self._nginx = self._fpm = None
        await self.leave_old_port()
        if self._reserved_port:
            await self._reserved_port.reserve()

    async def move(self) -> None:
        if self._waking is not None:
            await asyncio.shield(self._waking)
        await self.leave_old_port()
        port = await ReservedPort.bind(self.spec.address)
        self._old, self._reserved_port = (self._nginx, self._held, self._reserved_port), port
        was_awake, self._nginx, self._held = self._nginx is not None, None, None
        if self._asleep is not None:
            self._close_asleep()
            await self.sleep()
        elif was_awake:
            await self._run_nginx(await self._listen())

    async def leave_old_port(self, *, keep_idle: bool = True) -> None:
        (nginx, sock, port), self._old = self._old, (None, None, None)
        if sock is not None:
            if nginx is not None and not nginx.ended.is_set():
                await until_all_are_accepted(sock)
            sock.close()
        if nginx is not None:
            await nginx.quit(STOP_DEADLINE)
        if port is not None:
            port.release()

    def dismiss(self) -> None:
        """Release the port and remove the directory, at the very end, after `stop`."""
        if self._reserved_port:
            self._reserved_port.release()
        shutil.rmtree(self._dir, ignore_errors=True)

    def fill(self, *, on: bool) -> None:
        if on:
            (self._dir / "full").touch()
        else:
            (self._dir / "full").unlink(missing_ok=True)

    def slow(self, factor: float) -> None:
        (self._dir / "slow").write_text(str(factor))

    async def heal(self) -> None:
        self.fill(on=False)
        self.slow(1.0)
        if not self.listening:
            await self.start()

    # -- sockets --

    async def _listen(self) -> socket.socket:
        if self._reserved_port is None:
            self._reserved_port = await ReservedPort.bind(self.spec.address, self.spec.port)
        sock = await self._reserved_port.take()
        sock.listen(BACKLOG)
        return sock

    def _on_first_request(self) -> None:
        assert self._asleep is not None
        asyncio.get_running_loop().remove_reader(self._asleep.fileno())
        self._waking = asyncio.ensure_future(self._wake_up(self._asleep))

    async def _wake_up(self, sock: socket.socket) -> None:
        try:
            await self._run(sock)
            self._enter_state("running")
        except ContainerFailed as error:
            log.error("container not woken", code="container_not_woken", container=self.spec.id, error=str(error))
            await self._terminate()
        finally:
            self._asleep = None
            self._waking = None

    async def _end_waking(self) -> None:
        if self._waking is not None:
            self._waking.cancel()
            await asyncio.wait([self._waking])

    def _close_asleep(self) -> None:
        if self._asleep is not None:
            asyncio.get_running_loop().remove_reader(self._asleep.fileno())
            self._asleep.close()
            self._asleep = None

    def _close_held(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def _enter_state(self, state: State) -> None:
        changed, self.state = state != self.state, state
        if changed and self._on_state_change:
            self._on_state_change(self.spec.id, state)

    # -- processes --

    async def _run(self, sock: socket.socket) -> None:
        write_files(self.spec, self._dir)
        self._started_at = time.time()
        if self._fpm is None or self._fpm.ended.is_set():
            self._fpm = self._spawn_fpm()
        await self._run_nginx(sock)

    async def _run_nginx(self, sock: socket.socket) -> None:
        self._held = sock
        self._nginx = self._spawn_nginx(sock)
        watch = asyncio.get_running_loop().create_task(self._watch(self._nginx))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        await self._until_ready(sock)

    async def _watch(self, nginx: ChildProcess) -> None:
        """When nginx ends by itself, refuse connections: nobody accepts them."""
        await nginx.ended.wait()
        if self._nginx is nginx:
            self._close_held()

    def _spawn_fpm(self) -> ChildProcess:
        path = self._dir / "php.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(str(path))
            sock.listen(fpm_backlog(self.spec))
            command = [Binaries.find().php_fpm, "-n", "-F", "-y", str(self._dir / "php-fpm.conf")]
            return ChildProcess.spawn(
                [*command, *(["-R"] if os.geteuid() == 0 else [])],
                log=self._dir / "php-fpm.log",
                env={"FPM_SOCKETS": f"{path}={sock.fileno()}"},
                pass_fds=[sock.fileno()],
            )

    def _spawn_nginx(self, sock: socket.socket) -> ChildProcess:
        errors = self._dir / "nginx.log"
        conf = write_nginx_conf(self.spec, self._dir, self.port)
        return ChildProcess.spawn(
            [Binaries.find().nginx, "-p", str(self._dir), "-e", str(errors), "-c", str(conf)],
            log=errors,
            env={"NGINX": f"{sock.fileno()};"},
            pass_fds=[sock.fileno()],
        )

    async def _until_ready(self, sock: socket.socket) -> None:
        """Return when php-fpm responds through nginx. Raises ContainerFailed with the ends of their logs."""
        assert self._nginx
        assert self._fpm
        address, port = sock.getsockname()[:2]
        check = asyncio.ensure_future(_request_ready(address, port, self.spec.tls))
        ends = [asyncio.ensure_future(process.ended.wait()) for process in (self._nginx, self._fpm)]
        try:
            await asyncio.wait([check, *ends], timeout=START_DEADLINE, return_when=asyncio.FIRST_COMPLETED)
            if check.done() and check.exception() is None and check.result().startswith(b"HTTP/1.1 200"):
                return
            logs = [process.last_words() for process in (self._nginx, self._fpm)]
            raise ContainerFailed(
                f"container {self.spec.id} did not come up (deadline {START_DEADLINE:g} s). Log of nginx: "
                f"{logs[0] or 'empty'}. Log of php-fpm: {logs[1] or 'empty'}"
            )
        finally:
            for waiting in (check, *ends):
                waiting.cancel()

    async def _quit_processes(self) -> None:
        """Stop nginx first, so that PHP can finish the requests that nginx waits for."""
        nginx, self._nginx = self._nginx, None
        if nginx:
            await nginx.quit(STOP_DEADLINE)
        if self._fpm:
            await self._fpm.quit(STOP_DEADLINE)
            self._fpm = None


async def _request_ready(address: str, port: int, tls: ContainerTls | None) -> bytes:
    """Request the readiness path; returns the status line."""
    context = None if tls is None else _client_context(tls)
    reader, writer = await asyncio.open_connection(address, port, ssl=context)
    try:
        writer.write(f"GET {READY_PATH} HTTP/1.1\r\nHost: ready\r\nConnection: close\r\n\r\n".encode())
        return await reader.readline()
    finally:
        writer.close()


def _client_context(tls: ContainerTls) -> ssl.SSLContext:
    """Of a client that shows the certificate of the edge. It knows whom it has started, and checks no name."""
    context = ssl.create_default_context(cafile=str(tls.client_ca))
    context.check_hostname = False
    context.load_cert_chain(*tls.client)
    return context
