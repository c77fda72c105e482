"""The control channel, both ends in one process: which workers are accepted, silent workers, and bounded
waiting."""

import asyncio
import os
import socket
import struct

import msgspec
import pytest

from edge import __version__
from edge.admin.admin_messages import CommandResult, OperatorDrain
from edge.rules.balancing.drains import Drains
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING
from edge.rules.settings import Settings
from edge.run.control.control_client import ControlClient
from edge.run.control.control_link import Password
from edge.run.control.control_messages import (
    MOST_HELLO,
    MOST_RECORD_BYTES,
    AskExplain,
    AskSnapshot,
    Command,
    HealthEventsSeen,
    Hello,
    RoutesLearned,
    ToWorker,
    Unpacker,
    packed,
)
from edge.run.control.control_server import MOST_ARRIVING, ControlServer
from edge.run.control.worker_connection import REPLY_TIMEOUT, WAITING
from edge.run.worker import Worker
from tests.run.routes.test_route_store import a_record

SETTINGS = {"listeners": ({"address": "127.0.0.1:0"},), "core_api": {"url": "http://127.0.0.1:9"}}
DEADLINE = 30.0


class Master:
    """The channel to the master: records the commands of the control server."""

    def __init__(self):
        self.received = []

    def send(self, message):
        self.received.append(message)


@pytest.fixture
async def channel():
    """A control server, and workers that `join` connects to it."""
    password = Password(f"\0styx-test-{id(object())}", b"sesame")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(password.address)
    listening.listen(8)
    master = Master()
    saved, refused, ends = [], [], []
    control_server = ControlServer(master, password.secret, save=saved.extend, count_refused=refused.append)
    await control_server.start(listening)

    class Channel:
        pass

    made = Channel()
    made.control_server, made.master, made.password = control_server, master, password
    made.saved, made.refused, made.ends = saved, refused, ends

    async def join(slot, secret=password.secret, **changes):
        worker = Worker(Settings.model_validate(SETTINGS))
        end = ControlClient(worker, slot, password._replace(secret=secret), **changes)
        end.start()
        ends.append((worker, end))
        return worker

    made.join = join
    yield made
    for worker, end in ends:
        await end.stop()
        await worker.stop()
    await control_server.stop()
    listening.close()


def refusals(caplog):
    """Why connections were closed."""
    return [record.error for record in caplog.records if getattr(record, "code", "") == "bad_control_message"]


async def until(condition):
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - no event tells of another process
            await asyncio.sleep(0.002)


async def test_all_workers_are_asked_and_silent_ones_named(channel):
    channel.control_server.workers = {0: os.getpid(), 5: 1}
    await channel.join(0)
    await until(lambda: len(channel.control_server.connections) == 1)
    responses = await channel.control_server.snapshots()
    assert [(reply.worker, reply.pid) for reply in responses.workers] == [(0, os.getpid())]
    assert msgspec.json.decode(responses.workers[0].content)["routes"] == 0
    assert responses.silent == [5]
    assert bytes((await channel.control_server.explain("a.test")).workers[0].content) == b"null"
    assert bytes((await channel.control_server.invalidate("all", "")).workers[0].content) == b"0"
    [reply] = (await channel.control_server.invalidate("planet", "earth")).workers
    assert reply.error == "ValueError: planet is none of hostname, environment, site, server, certificate, all"


async def test_a_wrong_secret_is_refused(channel, caplog):
    await channel.join(0, secret=b"guessed")
    await until(lambda: refusals(caplog) != [])
    assert set(refusals(caplog)) == {"not a worker of this master"}
    assert not channel.control_server.connections


async def test_another_version_is_refused(channel, caplog):
    _, writer = await asyncio.open_unix_connection(channel.password.address)
    writer.write(packed(Hello("0.0.1", channel.password.secret, 0, os.getpid())))
    await until(lambda: refusals(caplog) != [])
    assert set(refusals(caplog)) == {"not a worker of this master"}
    writer.close()
    await writer.wait_closed()


async def test_garbage_closes_the_connection(channel, caplog):
    reader, writer = await asyncio.open_unix_connection(channel.password.address)
    writer.write(b"\xff" * 100)
    assert await reader.read() == b""
    assert refusals(caplog) == ["a message of 4294967295 bytes, at most 4096"]
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (struct.pack("!I", MOST_HELLO + 1), "a message of 4097 bytes, at most 4096"),
        (packed(RoutesLearned([b"x"])), "not a worker of this master"),
        (packed(Hello(__version__, b"sesame", 0, 1)), "not a worker of this master"),
        (packed(Hello(__version__, b"sesam", 0, os.getpid())), "not a worker of this master"),
    ],
    ids=["much", "no hello", "another process", "another secret"],
)
async def test_only_a_good_hello_is_accepted_first(channel, caplog, data, why):
    reader, writer = await asyncio.open_unix_connection(channel.password.address)
    writer.write(data)
    assert await reader.read() == b""
    assert refusals(caplog) == [why]
    assert not channel.control_server._arriving
    writer.close()
    await writer.wait_closed()


async def test_a_connection_without_a_hello_times_out(channel, caplog):
    channel.control_server._hello_timeout = 0.05
    reader, writer = await asyncio.open_unix_connection(channel.password.address)
    writer.write(b"\0\0\0")
    async with asyncio.timeout(DEADLINE):
        assert await reader.read() == b""
    assert [record.code for record in caplog.records if hasattr(record, "code")] == ["control_hello_late"]
    assert not channel.control_server._arriving
    writer.close()
    await writer.wait_closed()


async def test_connections_without_a_hello_are_bounded(channel):
    """One more is refused, and accepted when another has closed; a connected worker does not count."""
    await channel.join(0)
    await until(lambda: len(channel.control_server.connections) == 1)
    arriving = [await asyncio.open_unix_connection(channel.password.address) for _ in range(MOST_ARRIVING)]
    await until(lambda: len(channel.control_server._arriving) == MOST_ARRIVING)
    reader, writer = await asyncio.open_unix_connection(channel.password.address)
    assert await reader.read() == b""
    assert channel.refused == [1]
    writers = [writer, *(writer for _, writer in arriving)]
    arriving[0][1].close()
    await until(lambda: len(channel.control_server._arriving) == MOST_ARRIVING - 1)
    writers.append((await asyncio.open_unix_connection(channel.password.address))[1])
    await until(lambda: len(channel.control_server._arriving) == MOST_ARRIVING)
    for writer in writers:
        writer.close()
    assert len(channel.control_server.connections) == 1


async def test_a_process_with_another_parent_is_refused(channel):
    """Though it has the same user: the kernel reports its process id."""
    channel.control_server._listener._master = 1
    reader, writer = await asyncio.open_unix_connection(channel.password.address)
    assert await reader.read() == b""
    await until(lambda: channel.refused == [1])
    writer.close()


async def test_another_user_is_refused(channel):
    channel.control_server._listener._user = os.geteuid() + 1
    reader, writer = await asyncio.open_unix_connection(channel.password.address)
    assert await reader.read() == b""
    await until(lambda: channel.refused == [1])
    writer.close()


async def test_a_bad_record_affects_nothing_else(channel):
    """Of two workers one sends a damaged record, and one that cannot be handled: the connections stay."""
    first, second = await channel.join(0), await channel.join(1)
    await until(lambda: len(channel.control_server.connections) == 2)
    connections = set(channel.control_server.connections)
    good = a_record("good.test")
    [sender] = [end for worker, end in channel.ends if worker is first]
    sender._send(RoutesLearned([b"damaged", good.data[:-1], good.data]))
    await until(lambda: "good.test" in second.context.resolver.compact_routes)
    assert channel.saved == [good.data], "a damaged one on disk would hide all that is written behind it"
    learn = second.context.resolver.learn
    second.context.resolver.learn = lambda found: 1 / 0
    sender._send(RoutesLearned([a_record("lost.test").data]))
    await until(lambda: len(channel.saved) == 2)
    sender._send(HealthEventsSeen([HealthEvent("down", "s", "live", "b")]))
    await until(lambda: len(second.context.resolver.environments.shared._remembered) == 1)
    second.context.resolver.learn = learn
    sender._send(RoutesLearned([a_record("last.test").data]))
    await until(lambda: "last.test" in second.context.resolver.compact_routes)
    assert channel.control_server.connections == connections
    third = await channel.join(2)
    await until(lambda: "last.test" in third.context.resolver.compact_routes)
    assert len(third.context.resolver.compact_routes) == 3


async def test_a_message_that_cannot_be_encoded_ends_nothing(channel, caplog):
    for slot in range(2):
        await channel.join(slot)
    await until(lambda: len(channel.control_server.connections) == 2)
    connections = set(channel.control_server.connections)
    channel.control_server.send_to_others(None, HealthEventsSeen([HealthEvent("down", "\ud800", "live", "b")]))
    responses = await channel.control_server.explain("\ud800")
    assert responses.workers == []
    for _, end in channel.ends:
        end._send(HealthEventsSeen([HealthEvent("down", "\ud800", "live", "b")]))
    channel.control_server.changed([Change("hostname", "a.test")])
    assert channel.control_server.connections == connections
    assert {record.code for record in caplog.records if hasattr(record, "code")} == {"control_message_not_sent"}


async def test_workers_buffer_little_while_the_admin_process_does_not_read(channel):
    """The names of what they learn wait, and the routes are sent when it reads again; no connection is closed."""
    most = 200_000
    worker, other = await channel.join(0, waiting=most), await channel.join(1)
    await until(lambda: len(channel.control_server.connections) == 2)
    [connection] = [connection for connection in channel.control_server.connections if connection.hello.slot == 0]
    [end] = [end for one, end in channel.ends if one is worker]
    connection._transport.pause_reading()
    resolver, now = worker.context.resolver, worker.context.clock()
    for n in range(5000):
        hostname = f"{n}.test"
        resolver.learn([a_record(hostname, site=f"site-{n % 100}")])
        resolver.compact_routes.promote(hostname)
        route = resolver.table.peek(hostname)
        route.published_at = -1.0
        resolver.compact_routes.publish(hostname, route, now)
        if n % 500 == 0:
            end._send_learned()
    end._send_learned()
    held = end._transport.get_write_buffer_size()
    assert held < most + MOST_RECORD_BYTES + 1000
    assert len(resolver.compact_routes._unpublished) > 0
    for n in range(2000):
        worker.context.resolver.environments.shared.publish(HealthEvent("down", "s", "live", str(n)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert end._transport.get_write_buffer_size() == held
    connection._transport.resume_reading()
    await until(lambda: len(other.context.resolver.compact_routes) == 5000)
    assert len(resolver.compact_routes._unpublished) == 0
    assert connection in channel.control_server.connections


async def test_a_stalled_worker_delays_nothing(channel):
    """It has connected, and neither reads nor sends any more."""
    _, writer = await asyncio.open_unix_connection(channel.password.address)
    writer.write(packed(Hello(__version__, channel.password.secret, 1, os.getpid())))
    await channel.join(0)
    await until(lambda: len(channel.control_server.connections) == 2)
    channel.control_server.workers = {0: os.getpid(), 1: 77}
    async with asyncio.timeout(DEADLINE):
        responses = await channel.control_server.snapshots()
    assert responses.silent == [1]
    assert [reply.worker for reply in responses.workers] == [0]
    writer.close()
    await writer.wait_closed()


async def test_a_worker_that_has_disconnected_is_not_waited_for(channel):
    """It disconnects after all workers were collected and before it is asked."""
    await channel.join(0)
    await until(lambda: len(channel.control_server.connections) == 1)
    [connection] = channel.control_server.connections
    connection.close()
    assert not connection.send(AskSnapshot(8)), "uvloop would raise"
    await until(lambda: connection not in channel.control_server.connections)
    async with asyncio.timeout(REPLY_TIMEOUT / 2):
        assert await connection.ask(AskSnapshot(9), 9) is None


async def test_a_worker_disconnects_from_an_admin_process_that_does_not_read(channel, monkeypatch, caplog):
    """The worker's loop keeps running, and it connects again."""
    worker = await channel.join(0, waiting=1000)
    await until(lambda: len(channel.control_server.connections) == 1)
    [connection] = channel.control_server.connections
    connection._transport.pause_reading()
    monkeypatch.setattr(worker, "explain", lambda host: None)
    monkeypatch.setattr(worker, "snapshot", lambda: "x" * 100_000)
    for number in range(30):
        connection._transport.write(packed(AskSnapshot(number)))
    await until(lambda: any(getattr(r, "code", "") == "control_connection_stalled" for r in caplog.records))
    connection._transport.abort()
    await until(
        lambda: (
            len(channel.control_server.connections) == 1 and connection not in channel.control_server.connections
        )
    )


async def test_drains_reach_later_workers_and_a_later_admin_process(channel):
    first = await channel.join(0)
    await until(lambda: len(channel.control_server.connections) == 1)
    responses = await channel.control_server.drain(OperatorDrain("server", "srv-1", 60.0, "alice"))
    assert bytes(responses.workers[0].content) == b"1"
    second = await channel.join(1)
    await until(lambda: len(second.context.table.drains) == 1)
    [reply] = channel.control_server.drains()
    assert (reply.kind, reply.name, reply.by) == ("server", "srv-1", "alice")
    assert second.context.table.drains.left(0.0)[0][3] == "alice"
    assert 50 < reply.seconds <= 60
    channel.control_server._drains = Drains()  # as a new admin process begins
    for connection in tuple(channel.control_server.connections):
        connection.close()
    await until(lambda: [drain.name for drain in channel.control_server.drains()] == ["srv-1"])
    assert channel.control_server.drains()[0].by == "alice"
    await channel.control_server.drain(OperatorDrain("server", "srv-1", 0.0))
    assert len(first.context.table.drains) == len(second.context.table.drains) == 0
    assert channel.control_server.drains() == []


async def test_a_command_gets_the_result_from_the_master(channel):
    wishing = asyncio.ensure_future(channel.control_server.command("reload"))
    await until(lambda: channel.master.received != [])
    [command] = channel.master.received
    assert isinstance(command, Command)
    channel.control_server.command_finished(command.number + 1, CommandResult(True, ["somebody else's"]))
    channel.control_server.command_finished(command.number, CommandResult(False, ["wrong"]))
    assert await wishing == CommandResult(False, ["wrong"])


async def test_a_request_that_fails_gets_the_error_as_reply(channel, monkeypatch):
    worker = await channel.join(0)
    await until(lambda: len(channel.control_server.connections) == 1)
    monkeypatch.setattr(worker, "explain", lambda host: 1 / 0)
    [connection] = channel.control_server.connections
    reply = await connection.ask(AskExplain(9, "a.test"), 9)
    assert (reply.body, reply.why) == (b"", "ZeroDivisionError: division by zero")


# What has changed


def some_changes(wave):
    """Changes of 600 KB."""
    return [Change("hostname", f"{wave}-{n}.{'x' * 40}.test") for n in range(10_000)]


async def test_each_worker_gets_a_change_once(channel, monkeypatch):
    changed = []
    for slot in range(2):
        worker = await channel.join(slot)
        monkeypatch.setattr(worker.context.resolver.invalidator, "changed", changed.extend)
    await until(lambda: len(channel.control_server.connections) == 2 and changed.count(EVERYTHING) == 2)
    changed.clear()
    changes = [Change("site", "a"), Change("hostname", "b.test")]
    for _ in range(1000):
        channel.control_server.changed(changes)
    await until(lambda: len(changed) == 4)
    assert changed == changes * 2


async def test_a_worker_that_reads_slowly_gets_a_change_of_everything(channel, caplog):
    """Its connection stays open, and the bytes that wait for it are bounded."""
    reader, writer = await asyncio.open_unix_connection(channel.password.address, limit=1000)
    writer.write(packed(Hello(__version__, channel.password.secret, 1, os.getpid())))
    await until(lambda: len(channel.control_server.connections) == 1)
    [connection] = channel.control_server.connections
    for wave in range(20):
        channel.control_server.changed(some_changes(wave))
        await asyncio.sleep(0.025)  # batches go a fiftieth of a second apart
    assert WAITING <= connection._transport.get_write_buffer_size() < WAITING + (1 << 18)
    assert [record.code for record in caplog.records] == ["worker_misses_changes"], "once"
    unpacker, received = Unpacker(ToWorker), []
    async with asyncio.timeout(DEADLINE):
        while received[-1:] != [EVERYTHING] or len(received) < 100:
            for message in unpacker.feed(await reader.read(1 << 16)):
                received += message.changes
    assert received.count(EVERYTHING) == 2, "when it came, and for what it missed"
    assert len(received) < 20 * 10_000
    channel.control_server.changed([Change("site", "after")])
    async with asyncio.timeout(DEADLINE):
        while received[-1] != Change("site", "after"):
            for message in unpacker.feed(await reader.read(1 << 16)):
                received += message.changes
    assert channel.control_server.connections == {connection}
    writer.close()
    await writer.wait_closed()


async def test_changes_that_cannot_be_encoded_become_everything_and_later_ones_are_sent(channel, monkeypatch):
    changed = []
    worker = await channel.join(0)
    monkeypatch.setattr(worker.context.resolver.invalidator, "changed", changed.extend)
    await until(lambda: changed == [EVERYTHING])
    channel.control_server.changed([Change("hostname", "\ud800")])
    await until(lambda: len(changed) == 2)
    channel.control_server.changed([Change("site", "a")])
    await until(lambda: len(changed) == 3)
    assert changed[1:] == [EVERYTHING, Change("site", "a")]


async def test_invalid_changes_are_not_published_to_other_edges(channel):
    published = []
    channel.control_server.publish = published.extend
    await channel.control_server.invalidate("planet", "earth")
    await channel.control_server.invalidate("site", "a")
    assert published == [Change("site", "a")]
