"""Whose buffers have to go when all together are too large: those of the clients that hold most.

The level is sought up to which every client may hold bytes, so that all fit; who is above it loses its largest
buffers until it is not. One client with thousands of connections pays before a thousand clients with one each.
"""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def fair_level(sums: Iterable[int], room: int) -> float:
    """What each may have at most so that all fit into the room; infinity if they do anyway."""
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
    """Which of these have to go; of those of one client and one size, the first. Each is its client, its bytes, and
    what it is."""
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
