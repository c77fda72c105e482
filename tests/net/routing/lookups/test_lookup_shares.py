"""What lookups of one site may hold of the slots."""

import asyncio
import random

import pytest

from edge.net.routing.lookups.lookup_shares import LookupShares
from tests.support.fake_transports import turns

KNOWN, COLD = 0, 1


class Lookups:
    """Lookups that take until the test ends them."""

    def __init__(self, limit):
        self.shares = LookupShares(limit)
        self.tasks = []
        self.holders = []

    async def start(self, site, count=1, priority=KNOWN):
        for _ in range(count):
            self.tasks.append(asyncio.create_task(self._look_up(site, asyncio.Event(), priority)))
        await turns()

    async def _look_up(self, site, over, priority):
        async with self.shares.slot(site, priority):
            self.holders.append((site, over))
            await over.wait()

    def held(self, site):
        return sum(each == site for each, _ in self.holders)

    async def end(self, site, count=1):
        for _ in range(count):
            holder = next(each for each in self.holders if each[0] == site)
            self.holders.remove(holder)
            holder[1].set()
            await turns()

    async def cancel(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (2, 1), (4, 3), (8, 6), (16, 12), (64, 48)])
async def test_one_site_alone_holds_three_quarters(limit, most):
    lookups = Lookups(limit)
    await lookups.start("shop", 100)
    assert lookups.held("shop") == most
    await lookups.cancel()


async def test_others_find_slots_while_the_core_api_hangs_for_some_sites():
    lookups = Lookups(64)
    for n in range(3):
        await lookups.start(f"hangs-{n}", 100)
        await lookups.start(None, priority=COLD)
        assert lookups.held(None) == 1, "a cold one needs not wait"
        await lookups.end(None)
    await lookups.start("known")
    assert lookups.held("known") == 1
    await lookups.cancel()


async def test_what_is_beyond_the_share_of_a_site_has_its_turn():
    lookups = Lookups(8)
    await lookups.start("a", 20)
    await lookups.start("b", 5)
    assert (lookups.held("a"), lookups.held("b")) == (6, 1)
    await lookups.end("a", 3)
    assert lookups.held("b") == 3, "those of the other site go first"
    assert lookups.held("a") + lookups.held("b") == 6
    await lookups.end("b", 5)
    await lookups.end("a", 17)
    assert len(lookups.shares) == 0
    assert all(task.done() for task in lookups.tasks)


async def test_cold_lookups_that_end_make_room_for_known_ones():
    lookups = Lookups(8)
    await lookups.start(None, 7, COLD)
    await lookups.start("a", 9)
    assert lookups.held("a") == 1
    await lookups.end(None, 7)
    assert lookups.held("a") == 6
    await lookups.cancel()


async def test_whatever_is_cancelled_nothing_is_lost():
    """Lookups end and are cancelled in any order, also between their admission and their next turn."""
    dice = random.Random(7)
    lookups = Lookups(16)
    for _ in range(400):
        await lookups.start(dice.choice(["a", "b", "c", None]), dice.randrange(5), dice.choice([KNOWN, COLD]))
        for site, over in dice.sample(lookups.holders, len(lookups.holders) // 2):
            lookups.holders.remove((site, over))
            over.set()
        await turns(dice.randrange(4))
        for task in dice.sample(lookups.tasks, len(lookups.tasks) // 8):
            task.cancel()
        lookups.tasks = [task for task in lookups.tasks if not task.done()]
        assert 0 <= lookups.shares._slots.free <= 16
    await lookups.cancel()
    assert len(lookups.shares) == 0
    lookups.holders.clear()
    await lookups.start("a", 20)
    assert lookups.held("a") == 12
    await lookups.cancel()
