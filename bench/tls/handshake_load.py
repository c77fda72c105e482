"""Connects again and again: a handshake, one request, its response, and the end of the connection.

`python -m bench.tls.handshake_load TASK RESULT`: two JSON files. One thread: the next connection begins when the
one before has ended, so that a slower proxy gets fewer. What counts is the CPU of the proxy for each.
"""

import socket
import ssl
import time

import msgspec

from bench.lab.task_files import play_task

TIMEOUT = 10.0


class HandshakeTask(msgspec.Struct, frozen=True, kw_only=True):
    """How it connects."""

    port: int
    host: str
    path: str
    ca: str
    "File of the authority."
    seconds: float
    version: str
    "1.2 or 1.3"
    resumes: bool
    "With the session that it got last, if it got one."


class HandshakeLoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    completed: int
    "Connections with a response of status 200."
    resumed: int
    failed: int
    seconds: float


def play(task: HandshakeTask) -> HandshakeLoadResult:
    """Connect until the time is over."""
    context = ssl.create_default_context(cafile=task.ca)
    version = ssl.TLSVersion.TLSv1_2 if task.version == "1.2" else ssl.TLSVersion.TLSv1_3
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["http/1.1"])
    request = f"GET {task.path} HTTP/1.1\r\nHost: {task.host}\r\nConnection: close\r\n\r\n".encode()
    session: ssl.SSLSession | None = None
    completed = resumed = failed = 0
    began = time.monotonic()
    while time.monotonic() < began + task.seconds:
        try:
            raw = socket.create_connection(("127.0.0.1", task.port), timeout=TIMEOUT)
            with context.wrap_socket(raw, server_hostname=task.host, session=session) as connection:
                connection.sendall(request)
                first = connection.recv(65536)
                while connection.recv(65536):
                    pass
                resumed += connection.session_reused is True
                if task.resumes:
                    session = connection.session
        except OSError:
            failed += 1
            continue
        completed += first.startswith(b"HTTP/1.1 200 ")
        failed += not first.startswith(b"HTTP/1.1 200 ")
    return HandshakeLoadResult(
        completed=completed, resumed=resumed, failed=failed, seconds=time.monotonic() - began
    )


if __name__ == "__main__":
    play_task(HandshakeTask, play)
