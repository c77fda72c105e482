"""The accept queue of a listening socket, as the kernel reports it."""

import socket

from edge.net.accept.accept_queue import AcceptQueue, accept_queue


def test_length_and_limit() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=7) as listening:
        assert accept_queue(listening) == AcceptQueue(0, 7)
        clients = [socket.create_connection(listening.getsockname()) for _ in range(5)]
        assert accept_queue(listening) == AcceptQueue(5, 7)
        accepted, _ = listening.accept()
        assert accept_queue(listening) == AcceptQueue(4, 7)
        for sock in (accepted, *clients):
            sock.close()


def test_none_for_other_sockets() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        assert accept_queue(other) is None
    assert accept_queue(other) is None, "closed"
