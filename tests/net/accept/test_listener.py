"""Accepting in uvloop, the loop of production: several connections in one turn, and none is lost."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import uvloop

from edge.net.accept.listener import AT_ONCE, Listener, open_listener
from edge.net.accept.new_clients import TRUST_MEMO
from edge.rules.limits.fd_shares import DescriptorShares
from edge.rules.settings import Settings
from edge.rules.settings.values import Address, address
from edge.run.worker import Worker

MANY = 50
DEADLINE = 100.0


class Accepting:
    """A worker with one listener, and clients in the accept queue of its socket."""

    def __init__(self, worker: Worker, listener: Listener, clients: list[socket.socket]) -> None:
        self.worker = worker
        self.listener = listener
        self.clients = clients

    @property
    def accepted(self) -> int:
        return self.worker.context.counts.accepted

    async def turns_until(self, accepted: int) -> int:
        """Turns of the loop until this many connections are accepted."""
        turns = 0
        async with asyncio.timeout(DEADLINE):
            while self.accepted < accepted:
                await asyncio.sleep(0)
                turns += 1
        return turns


def settings_for(where: str, **listener: object) -> Settings:
    return Settings.model_validate(
        {
            "listeners": ({"address": where, **listener},),
            "core_api": {"url": "http://127.0.0.1:1"},
            "access_log": {"path": ""},
        }
    )


@contextmanager
def waiting(where: Address, count: int) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """A listening socket, and clients that wait in its accept queue."""
    with ExitStack() as stack:
        listening = stack.enter_context(open_listener(where))
        listening.listen(4096)
        name = listening.getsockname()
        clients = [stack.enter_context(socket.socket(listening.family)) for _ in range(count)]
        for client in clients:
            client.settimeout(DEADLINE)
            client.connect(name)
        yield listening, clients


def play(
    story: Callable[[Accepting], Awaitable[None]],
    where: str = "127.0.0.1:0",
    *,
    count: int = MANY,
    budget: float = DEADLINE,
    **listener: object,
) -> None:
    """Run `story` in uvloop, which accepts one connection of a listener in each turn."""
    settings = settings_for(where, **listener)

    async def live() -> None:
        faults: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
        worker = Worker(settings)
        worker.prepare()
        try:
            with waiting(address(where), count) as (listening, clients):
                listener = Listener(listening, settings.listeners[0], worker.context, budget=budget)
                try:
                    await story(Accepting(worker, listener, clients))
                finally:
                    await listener.stop()
        finally:
            await worker.stop()
        assert not faults, faults

    uvloop.run(live())


@pytest.fixture(params=["tcp", "unix"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path}/styx.sock"


def test_all_that_wait_are_accepted_in_a_few_turns(where: str) -> None:
    async def story(accepting: Accepting) -> None:
        await accepting.listener.start()
        assert await accepting.turns_until(MANY) < MANY // 2

    play(story, where)


def test_the_time_budget_bounds_accepts_in_one_turn(where: str) -> None:
    async def story(accepting: Accepting) -> None:
        await accepting.listener.start()
        assert await accepting.turns_until(MANY) >= MANY // 2

    play(story, where, budget=0.0)


def test_a_number_bounds_accepts_in_one_turn(where: str) -> None:
    """Those accepted in one turn are handled in the next: a burst must not keep established connections waiting."""

    async def story(accepting: Accepting) -> None:
        await accepting.listener.start()
        before, most = 0, 0
        while before < MANY:
            await asyncio.sleep(0)
            most = max(most, accepting.accepted - before)
            before = accepting.accepted
        assert AT_ONCE // 2 <= most <= 2 * (AT_ONCE + 1), "those of this turn, and of the last one"

    play(story, where)


def test_open_files_bound_accepts_in_one_turn(where: str) -> None:
    """One by the loop and three by the listener, before `admit` decides about any of them."""

    async def story(accepting: Accepting) -> None:
        context = accepting.worker.context
        context.connection_limiter.reconfigure(context.settings.limits, DescriptorShares(1000, lingering=3))
        await accepting.listener.start()
        before = 0
        while before < MANY:
            await asyncio.sleep(0)
            assert accepting.accepted <= before + 2 * 4, "those of this turn, and of the last one"
            before = accepting.accepted

    play(story, where)


def test_a_rejected_connection_gets_503_even_without_an_open_file_to_linger(where: str) -> None:
    async def story(accepting: Accepting) -> None:
        context = accepting.worker.context
        context.connection_limiter.reconfigure(context.settings.limits, DescriptorShares(0, lingering=1))
        await accepting.listener.start()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            for client in accepting.clients:
                client.setblocking(False)
                assert (await loop.sock_recv(client, 1000)).startswith(b"HTTP/1.1 503 ")

    play(story, where)


def test_accepted_connections_are_served(where: str) -> None:
    async def story(accepting: Accepting) -> None:
        await accepting.listener.start()
        for client in accepting.clients:
            client.sendall(b"GARBAGE\r\n\r\n")
            client.setblocking(False)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            for client in accepting.clients:
                assert (await loop.sock_recv(client, 100)).startswith(b"HTTP/1.1 400 ")

    play(story, where)


def test_connections_accepted_in_stop_are_counted(where: str) -> None:
    async def story(accepting: Accepting) -> None:
        await accepting.listener.start()
        assert await accepting.turns_until(1) < 5
        await accepting.listener.stop()
        assert accepting.accepted == MANY, "they are counted: the end of the worker waits for them"

    play(story, where)


def test_a_client_reset_in_the_accept_queue_leaves_nothing_behind() -> None:
    async def story(accepting: Accepting) -> None:
        for client in accepting.clients[::2]:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        await accepting.listener.start()
        await accepting.turns_until(MANY)
        for client in accepting.clients[1::2]:
            client.close()
        async with asyncio.timeout(DEADLINE):
            while accepting.worker.context.counts.connections:  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0.001)

    play(story)


def test_all_of_them_need_a_proxy_header() -> None:
    async def story(accepting: Accepting) -> None:
        await accepting.listener.start()
        for client in accepting.clients:
            client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGARBAGE\r\n\r\n")
            client.setblocking(False)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            for client in accepting.clients:
                assert (await loop.sock_recv(client, 100)).startswith(b"HTTP/1.1 400 ")

    play(story, proxy_protocol=True, trusted=("127.0.0.0/8",))


def test_trust_is_remembered_of_so_many_addresses() -> None:
    async def live() -> None:
        settings = settings_for("127.0.0.1:0", trusted=("10.0.0.0/8", "fd00::/8"))
        with open_listener(address("127.0.0.1:0")) as sock:
            listener = Listener(sock, settings.listeners[0], Worker(settings).context)
            for _ in range(2):
                for name, trusted in (
                    ("10.1.2.3", True),
                    ("fd00::1", True),
                    ("11.1.2.3", False),
                    ("fe80::1", False),
                ):
                    info = listener.clients.info_by_peername((name, 5000))
                    assert info is not None
                    assert info.trusted is trusted
            for number in range(2 * TRUST_MEMO):
                listener.clients.info_by_peername((f"192.0.{number // 256}.{number % 256}", 5000))
            assert listener.clients.is_trusted is not None
            assert listener.clients.is_trusted.cache_info().currsize == TRUST_MEMO

    uvloop.run(live())
