"""What the kernel tells about connections that nobody has accepted yet."""

import socket

from edge.net.accept.accept_queue import AcceptQueue, accept_queue


def test_its_length_and_its_limit() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=7) as listening:
        assert accept_queue(listening) == AcceptQueue(0, 7)
        clients = [socket.create_connection(listening.getsockname()) for _ in range(5)]
        assert accept_queue(listening) == AcceptQueue(5, 7)
        accepted, _ = listening.accept()
        assert accept_queue(listening) == AcceptQueue(4, 7)
        for sock in (accepted, *clients):
            sock.close()


def test_there_is_none_of_other_sockets() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        assert accept_queue(other) is None
    assert accept_queue(other) is None, "closed"
