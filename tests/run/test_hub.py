"""The control channel, both ends in one process: who is let in, who is silent, and that nobody waits for long."""

import asyncio
import os
import socket

import msgspec
import pytest

from edge import __version__
from edge.admin.crew import Drain, Granted
from edge.rules.settings import Settings
from edge.run import control_end
from edge.run.control_end import ControlEnd, Password
from edge.run.hub import ANSWER_DEADLINE, Hub
from edge.run.orders import AskExplain, AskSnapshot, Hello, Wish, packed
from edge.run.worker import Worker

SETTINGS = {"listeners": ({"address": "127.0.0.1:0"},), "core_api": {"url": "http://127.0.0.1:9"}}
DEADLINE = 30.0


class Master:
    """Hears what the hub wishes."""

    def __init__(self):
        self.heard = []

    def tell(self, message):
        self.heard.append(message)


@pytest.fixture
async def channel():
    """A hub, and workers that are joined to it by `join`."""
    password = Password(f"\0styx-test-{id(object())}", b"sesame")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(password.address)
    listening.listen(8)
    master = Master()
    hub = Hub(master, password.secret, keep=lambda records: None)
    await hub.start(listening)
    ends = []

    class Channel:
        pass

    made = Channel()
    made.hub, made.master, made.password = hub, master, password

    async def join(slot, secret=password.secret):
        worker = Worker(Settings.model_validate(SETTINGS))
        end = ControlEnd(worker, slot, password._replace(secret=secret))
        end.start()
        ends.append((worker, end))
        return worker

    made.join = join
    yield made
    for worker, end in ends:
        await end.stop()
        await worker.stop()
    await hub.stop()


async def until(condition):
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - no event tells of another process
            await asyncio.sleep(0.002)


async def test_all_are_asked_and_who_does_not_answer_is_named(channel):
    channel.hub.workers = {0: os.getpid(), 5: 1}
    await channel.join(0)
    await until(lambda: len(channel.hub.lines) == 1)
    answers = await channel.hub.snapshots()
    assert [(told.worker, told.pid) for told in answers.workers] == [(0, os.getpid())]
    assert msgspec.json.decode(answers.workers[0].told)["routes"] == 0
    assert answers.silent == [5]
    assert bytes((await channel.hub.explain("a.test")).workers[0].told) == b"null"
    assert bytes((await channel.hub.invalidate("all", "")).workers[0].told) == b"0"
    [told] = (await channel.hub.invalidate("planet", "earth")).workers
    assert told.error == "ValueError: planet is none of hostname, environment, site, server, all"


async def test_who_does_not_know_the_secret_is_not_let_in(channel, caplog):
    await channel.join(0, secret=b"guessed")
    await until(lambda: "no worker of ours" in caplog.text)
    assert not channel.hub.lines


async def test_another_version_is_not_let_in(channel, caplog):
    _, writer = await asyncio.open_unix_connection(channel.password.address)
    writer.write(packed(Hello("0.0.1", channel.password.secret, 0, 1, [])))
    await until(lambda: "no worker of ours" in caplog.text)
    writer.close()
    await writer.wait_closed()


async def test_garbage_is_not_listened_to(channel, caplog):
    reader, writer = await asyncio.open_unix_connection(channel.password.address)
    writer.write(b"\xff" * 100)
    assert await reader.read() == b""
    assert "does not speak as agreed" in caplog.text
    writer.close()
    await writer.wait_closed()


async def test_a_worker_that_stands_still_holds_nobody_up(channel):
    """It is joined, and reads and says nothing more."""
    _, writer = await asyncio.open_unix_connection(channel.password.address)
    writer.write(packed(Hello(__version__, channel.password.secret, 1, 77, [])))
    await channel.join(0)
    await until(lambda: len(channel.hub.lines) == 2)
    channel.hub.workers = {1: 77}
    async with asyncio.timeout(DEADLINE):
        answers = await channel.hub.snapshots()
    assert answers.silent == [1]
    assert [told.worker for told in answers.workers] == [0]
    writer.close()
    await writer.wait_closed()


async def test_a_worker_that_has_left_is_not_waited_for(channel):
    """It leaves between the moment when all are to be asked and the one in which it is asked."""
    await channel.join(0)
    await until(lambda: len(channel.hub.lines) == 1)
    [line] = channel.hub.lines
    line.close()
    await until(lambda: line not in channel.hub.lines)
    async with asyncio.timeout(ANSWER_DEADLINE / 2):
        assert await line.ask(AskSnapshot(9), 9) is None


async def test_an_admin_process_that_does_not_read_is_given_up(channel, monkeypatch, caplog):
    """And the worker's loop goes on; it connects again."""
    monkeypatch.setattr(control_end, "WAITING", 1000)
    worker = await channel.join(0)
    await until(lambda: len(channel.hub.lines) == 1)
    [line] = channel.hub.lines
    line._transport.pause_reading()
    monkeypatch.setattr(worker, "explain", lambda host: None)
    monkeypatch.setattr(worker, "snapshot", lambda: "x" * 100_000)
    for number in range(30):
        line._transport.write(packed(AskSnapshot(number)))
    await until(lambda: "does not read; the connection to it is given up" in caplog.text)
    line._transport.abort()
    await until(lambda: len(channel.hub.lines) == 1 and line not in channel.hub.lines)


async def test_drains_reach_workers_that_come_later_and_a_hub_that_comes_later(channel):
    first = await channel.join(0)
    await until(lambda: len(channel.hub.lines) == 1)
    answers = await channel.hub.drain(Drain("server", "srv-1", 60.0))
    assert bytes(answers.workers[0].told) == b"1"
    second = await channel.join(1)
    await until(lambda: len(second.services.table.drains) == 1)
    [told] = channel.hub.drains()
    assert (told.kind, told.name) == ("server", "srv-1")
    assert 50 < told.seconds <= 60
    channel.hub._drains.clear()  # as a new admin process begins
    for line in tuple(channel.hub.lines):
        line.close()
    await until(lambda: [drain.name for drain in channel.hub.drains()] == ["srv-1"])
    await channel.hub.drain(Drain("server", "srv-1", 0.0))
    assert len(first.services.table.drains) == len(second.services.table.drains) == 0
    assert channel.hub.drains() == []


async def test_a_wish_is_answered_by_the_master(channel):
    wishing = asyncio.ensure_future(channel.hub.wish("reload"))
    await until(lambda: channel.master.heard != [])
    [wish] = channel.master.heard
    assert isinstance(wish, Wish)
    channel.hub.granted(wish.number + 1, Granted(True, ["somebody else's"]))
    channel.hub.granted(wish.number, Granted(False, ["wrong"]))
    assert await wishing == Granted(False, ["wrong"])


async def test_a_question_that_fails_is_told_to_who_asked(channel, monkeypatch):
    worker = await channel.join(0)
    await until(lambda: len(channel.hub.lines) == 1)
    monkeypatch.setattr(worker, "explain", lambda host: 1 / 0)
    [line] = channel.hub.lines
    reply = await line.ask(AskExplain(9, "a.test"), 9)
    assert (reply.body, reply.why) == (b"", "ZeroDivisionError: division by zero")
