"""The client side of the fuzzer: plays a script on one connection and records what it receives."""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import cast

import msgspec

from bench.fuzz.mutations import Act, Steps
from bench.fuzz.strict_reader import Faulty, ResponseMessage, Unfinished, read_response

_BIND_ADDRESS_NO_PORT = 24
"IP_BIND_ADDRESS_NO_PORT of Linux: the port is chosen at connect, when it need not be free for all addresses."
_RESET = struct.pack("ii", 1, 0)


class Received(msgspec.Struct):
    """What a client got."""

    data: bytes
    end: str
    '"open" until we closed, "eof" or "reset" by the other side.'
    seconds: float
    responses: list[ResponseMessage] = []
    fault: str = ""
    "Why what came cannot be read as responses."
    dawdled: float = 0.0
    "Seconds that this client took to send more than its script asks for: its machine was busy, or paused."


class Line(asyncio.Protocol):
    """One connection to styx."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.data = bytearray()
        self.end = "open"
        self.dawdled = 0.0
        self.changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.changed.set()

    def eof_received(self) -> None:
        self.end = "eof"
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.end == "open":
            self.end = "eof" if exc is None else "reset"
        self.transport = None
        self.changed.set()

    async def play(self, steps: Steps) -> bool:
        """Returns whether the last step ended the connection."""
        for step in steps:
            transport = self.transport
            if transport is None or transport.is_closing():
                return False
            if step.act is Act.SEND:
                transport.write(step.data)
            elif step.act is Act.PAUSE:
                began = time.monotonic()
                await asyncio.sleep(step.seconds)
                self.dawdled += time.monotonic() - began - step.seconds
            elif step.act is Act.HALF_CLOSE:
                with contextlib.suppress(OSError):  # the other side reset it just now
                    transport.write_eof()
            elif step.act is Act.CLOSE:
                transport.close()
                return True
            else:
                raw = transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                transport.abort()
                return True
        return False

    async def until(self, satisfied: Callable[[bytes], bool], time_limit: float) -> None:
        """Until what came is enough, the connection ends, or time is up."""
        try:
            async with asyncio.timeout(time_limit):
                while self.end == "open" and not satisfied(bytes(self.data)):
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            return


async def connect(port: int, address: str) -> Line:
    """To styx on this machine, from this address of it. Raises OSError."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        sock.bind((address, 0))
        await loop.sock_connect(sock, ("127.0.0.1", port))
        _, line = await loop.create_connection(Line, sock=sock)
    except BaseException:
        sock.close()
        raise
    return line


def read_responses(
    data: bytes, methods: list[bytes], *, ended: bool, upgrades: frozenset[bytes] = frozenset()
) -> tuple[list[ResponseMessage], str]:
    """The responses to requests of these methods, in order, and why the rest cannot be read ("" = it can)."""
    responses: list[ResponseMessage] = []
    at = 0
    for method in [*methods, b"GET"]:
        if at >= len(data):
            return responses, ""
        try:
            response = read_response(data, at, method=method, ended=ended, upgrades=upgrades)
            if method == b"HEAD" and response.value(b"x-styx-error") and response.payload.end < len(data):
                # Refused before its method was known; the connection ends behind it.
                response = read_response(data, at, method=b"GET", ended=ended)
        except Unfinished:
            return responses, ""
        except Faulty as fault:
            return responses, str(fault)
        responses.append(response)
        if not response.whole:
            return responses, response.payload.why
        at = response.payload.end
    return responses, "" if at >= len(data) else f"more than was requested: {data[at : at + 100]!r}"
