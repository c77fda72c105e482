"""So many at once, the urgent ones first."""

import asyncio

from edge.net.turns import OTHERS_EVERY, Turns
from tests.net.fake_wires import turns


class Line:
    """Who has had a turn, in order; each holds it until it is let go."""

    def __init__(self, limit):
        self.turns = Turns(limit)
        self.had = []
        self.gates = {}
        self.tasks = {}

    def come(self, name, *, urgent=False):
        async def hold():
            async with self.turns.turn(urgent=urgent):
                self.had.append(name)
                await self.gates[name].wait()

        self.gates[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(hold())

    async def go(self, *names):
        for name in names:
            self.gates[name].set()
            await turns()


async def test_so_many_at_once():
    line = Line(2)
    for name in "abc":
        line.come(name)
    await turns()
    assert line.had == ["a", "b"]
    await line.go("b")
    assert line.had == ["a", "b", "c"]
    await line.go("a", "c")
    line.come("d")
    line.come("e")
    await turns()
    assert line.had[3:] == ["d", "e"], "all turns were given back"
    await line.go("d", "e")


async def test_the_urgent_ones_go_first_but_not_for_ever():
    line = Line(1)
    line.come("first")
    await turns()
    others, urgent = [f"other-{n}" for n in range(3)], [f"urgent-{n}" for n in range(6)]
    for name in others:
        line.come(name)
    for name in urgent:
        line.come(name, urgent=True)
    await turns()
    while len(line.had) < 10:
        await line.go(line.had[-1])
    assert OTHERS_EVERY == 4
    assert line.had[1:] == [*urgent[:3], others[0], *urgent[3:], *others[1:]]
    await line.go(line.had[-1])


async def test_who_leaves_the_line_takes_no_turn():
    line = Line(1)
    for name in "abc":
        line.come(name)
    await turns()
    line.tasks["b"].cancel()
    await turns()
    await line.go("a")
    assert line.had == ["a", "c"]
    await line.go("c")


async def test_who_is_cancelled_as_the_turn_comes_passes_it_on():
    line = Line(1)
    for name in "abc":
        line.come(name)
    await turns()
    line.gates["a"].set()
    line.tasks["a"].add_done_callback(lambda _: line.tasks["b"].cancel())
    await turns(10)
    assert line.had == ["a", "c"] or line.had == ["a", "b", "c"]
    await line.go("c")
    line.come("d")
    await turns()
    assert line.had[-1] == "d", "no turn was lost"
    await line.go("d")
