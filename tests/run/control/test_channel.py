"""The channel between the master and a child: sockets travel with their message, and the sender is checked."""

import asyncio
import os
import socket

import pytest

from edge.run.control import channel
from edge.run.control.channel import ChildEnd, MasterEnd
from edge.run.control.control_messages import (
    MOST_FROM_CHILD,
    AcceptFor,
    AcceptingStarted,
    AdminToMaster,
    Command,
    Draining,
    Failed,
    Ready,
    SettingsApplied,
    StartAccepting,
    StopAcceptingFor,
    WorkerToMaster,
    packed,
)
from edge.run.control.peer_credentials import ask_for_senders


@pytest.mark.parametrize("chunk", [1, 7, 65536], ids=["byte by byte", "in pieces", "at once"])
async def test_sockets_come_with_their_message(monkeypatch, chunk):
    monkeypatch.setattr(channel, "CHUNK", chunk)
    ours, theirs = socket.socketpair()
    master, child = MasterEnd(ours, WorkerToMaster, os.getpid()), ChildEnd(theirs)
    received, ended = [], asyncio.Event()

    def receive(message):
        sock = child.take_socket() if isinstance(message, AcceptFor) else None
        received.append((message, sock and number_of(sock)))
        if sock is not None:
            sock.close()
        if message is None:
            ended.set()

    child.listen(receive)
    sockets = [socket.socket() for _ in range(2)]
    numbers = [number_of(sock) for sock in sockets]
    sent = [
        (StartAccepting(), None),
        (AcceptFor(1, 0), sockets[0]),
        (AcceptFor(1, 2), sockets[1]),
        (StopAcceptingFor(1), None),
    ]
    for message, along in sent:
        assert master.send(message, along)
    for sock in sockets:
        sock.close()
    assert master.send(AcceptFor(3, 0)), "as if it had not come along"
    master.close()
    async with asyncio.timeout(100):
        await ended.wait()
    theirs.close()
    assert received == [
        (StartAccepting(), None),
        (AcceptFor(1, 0), numbers[0]),
        (AcceptFor(1, 2), numbers[1]),
        (StopAcceptingFor(1), None),
        (AcceptFor(3, 0), None),
        (None, None),
    ]


def number_of(sock):
    """The inode number of a socket."""
    return os.fstat(sock.fileno()).st_ino


def forked(send):
    """Fork a child that calls `send` with its end of a new channel. Returns our end, and the child's process id."""
    ours, theirs = socket.socketpair()
    ask_for_senders(ours)
    pid = os.fork()
    if not pid:
        try:
            ours.close()
            send(theirs)
        finally:
            os._exit(0)
    theirs.close()
    return ours, pid


def received_by(legal, send):
    """The messages that the master receives from such a child, and the violation that ended the channel."""
    ours, pid = forked(send)
    channel_end = MasterEnd(ours, legal, pid)
    messages = []
    while not channel_end.ended:
        messages += channel_end.read()
    messages += channel_end.read()
    os.waitpid(pid, 0)
    channel_end.close()
    return messages, channel_end.violation


def test_a_child_sends_its_messages():
    messages = [Ready(), SettingsApplied(1, ""), Failed("why")]
    for legal in (WorkerToMaster, AdminToMaster):
        assert received_by(legal, lambda theirs: theirs.sendall(b"".join(map(packed, messages)))) == (messages, "")


@pytest.mark.parametrize(
    ("legal", "bad"),
    [
        (WorkerToMaster, packed(Command(1, "reload"))),
        (WorkerToMaster, packed(Command(1, "upgrade"))),
        (AdminToMaster, packed(AcceptingStarted())),
        (AdminToMaster, packed(Draining())),
        (AdminToMaster, packed(Command(1, "reload")).replace(b"reload", b"reboot")),
        (AdminToMaster, packed(AcceptFor(1, 2))),
        (WorkerToMaster, packed(Failed("x" * MOST_FROM_CHILD))),
        (WorkerToMaster, b"\xff" * 100),
    ],
)
def test_an_illegal_message_ends_the_channel(legal, bad):
    """Messages before it are received; messages after it are not."""
    good = packed(Ready())
    messages, violation = received_by(legal, lambda theirs: theirs.sendall(good + bad + good))
    assert messages == [Ready()]
    assert violation


def test_messages_of_another_process_on_the_channel_are_rejected():
    """Whatever they are, and even when they come together with messages of the child."""

    def steal(theirs):
        theirs.sendall(packed(Ready()))
        thief = os.fork()
        if not thief:
            theirs.sendall(packed(Command(7, "reload")))
            os._exit(0)
        os.waitpid(thief, 0)
        theirs.sendall(packed(SettingsApplied(1, "")))

    messages, violation = received_by(AdminToMaster, steal)
    assert messages == [Ready()]
    assert violation.startswith("sent by process ")


def test_descriptors_from_a_child_are_dropped():
    def send(theirs):
        socket.send_fds(theirs, [packed(Ready())], [0, 1, 2])

    before = len(os.listdir("/proc/self/fd"))
    messages, violation = received_by(WorkerToMaster, send)
    assert messages == []
    assert violation
    assert len(os.listdir("/proc/self/fd")) == before


async def test_messages_behind_one_that_fails_are_handled(caplog):
    ours, theirs = socket.socketpair()
    child, received, ended = ChildEnd(theirs), [], asyncio.Event()

    def receive(message):
        received.append(message)
        if isinstance(message, StopAcceptingFor):
            raise ValueError("cannot")
        if message is None:
            ended.set()

    child.listen(receive)
    ours.sendall(packed(StopAcceptingFor(1)) + packed(StartAccepting()) + b"\xff" * 8)
    async with asyncio.timeout(100):
        await ended.wait()
    assert received == [StopAcceptingFor(1), StartAccepting(), None], "garbage: as if the master were gone"
    codes = [record.code for record in caplog.records]
    assert codes == ["channel_message_failed", "bad_channel_message"]
    ours.close()
    theirs.close()
