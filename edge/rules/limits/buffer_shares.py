"""Selects the buffers to drop when all together exceed a limit: those of the clients that hold most bytes.

A max-min fair level is computed: the number of bytes that every client may hold so that all fit. A client above it
loses its largest buffers until it is not above it. So one client with thousands of connections loses buffers before
a thousand clients with one connection each.
"""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def fair_level(sums: Iterable[int], room: int) -> float:
    """The most that each may hold so that all fit into `room`; infinity if they fit as they are."""
    left, ascending = float(room), sorted(sums)
    for number, held in enumerate(ascending):
        share = left / (len(ascending) - number)
        if held > share:
            return share
        left -= held
    return float("inf")


def _largest_first(held: tuple[int, int, object]) -> tuple[int, int]:
    size, number, _ = held
    return -size, number


def over_their_share(buffers: Iterable[tuple[object, int, T]], room: int) -> list[T]:
    """The buffers to drop so that the rest fit into `room` bytes. `buffers`: client, size in bytes, and the buffer.
    Of equal ones of one client, the first are dropped."""
    of_clients: dict[object, list[tuple[int, int, T]]] = {}
    for number, (client, size, buffer) in enumerate(buffers):
        of_clients.setdefault(client, []).append((size, number, buffer))
    sums = {client: sum(size for size, _, _ in held) for client, held in of_clients.items()}
    level = fair_level(sums.values(), room)
    gone: list[T] = []
    for client, held in of_clients.items():
        left = sums[client]
        if left <= level:
            continue
        for size, _, buffer in sorted(held, key=_largest_first):
            if left <= level:
                break
            gone.append(buffer)
            left -= size
    return gone
