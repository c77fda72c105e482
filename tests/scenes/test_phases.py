"""A request goes through its phases as `NEXT_PHASES` says, which is what docs/architecture.md draws."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from edge.net.exchange import Exchange
from edge.net.request.exchange_state import ExchangeState
from edge.rules.outcomes import NEXT_PHASES, Phase
from tests.support.needs import needs_plain
from tests.support.scene import SHORT, Received, Wire, request
from tests.support.scene_backends import head_of

pytestmark = needs_plain


class Recorded:
    """Stands for the attribute `phase` of exchanges, and keeps all its values."""

    def __init__(self) -> None:
        self._slot = ExchangeState.__dict__["phase"]
        self.ways: dict[Exchange, list[Phase]] = {}

    def __get__(self, exchange: Exchange, owner: type | None = None) -> Phase:
        return self._slot.__get__(exchange, owner)

    def __set__(self, exchange: Exchange, phase: Phase) -> None:
        self.ways.setdefault(exchange, []).append(phase)
        self._slot.__set__(exchange, phase)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    recorded = Recorded()
    monkeypatch.setattr(Exchange, "phase", recorded)
    yield recorded
    assert recorded.ways
    for way in recorded.ways.values():
        assert way[0] is Phase.HEAD
        assert way[-1] is Phase.FINISHED
        for before, after in pairwise(_told(way)):
            assert after is before or after in NEXT_PHASES[before], way


def _told(way: list[Phase]) -> list[Phase]:
    """Without the last step back: when no backend is left, an exchange ends in the phase of its last attempt."""
    return [*way[:-2], way[-1]] if len(way) > 2 and way[-3] is Phase.PICK else way


def moves(recorded: Recorded) -> set[tuple[Phase, Phase]]:
    return {move for way in recorded.ways.values() for move in pairwise(way)}


async def test_the_common_way(scene, recorded):
    scene.route("shop.test", [scene.backend()])
    for _ in range(2):
        assert (await scene.get("shop.test")).status == 200
    first, second = recorded.ways.values()
    assert first == second == list(Phase)


async def test_retries_go_back_to_pick(scene, recorded):
    scene.route("shop.test", [scene.dead(), scene.refusing(), scene.backend()])
    assert (await scene.get("shop.test")).status == 200
    assert {(Phase.CONNECT, Phase.PICK), (Phase.RESPONSE, Phase.PICK)} <= moves(recorded)


async def test_a_container_that_moved_leads_back_to_the_route(scene, recorded):
    scene.route("shop.test", [scene.misdirecting()], then=[scene.backend()])
    assert (await scene.get("shop.test")).status == 200
    assert (Phase.RESPONSE, Phase.ROUTE) in moves(recorded)


async def test_an_early_response_skips_the_wait_for_it(scene, recorded):
    async def full(wire: Wire, _: Received) -> None:
        await wire.send(head_of(413, [("Content-Length", "0")]))

    scene.route("shop.test", [scene.scripted(full)])
    client = await scene.client()
    await client.write(request("shop.test", headers=[("Content-Length", "1000")], method="POST") + b"x")
    assert (await client.read_reply()).status == 413
    assert (Phase.SEND, Phase.BODY) in moves(recorded)


async def test_failures_end_where_they_happen(scene, recorded):
    scene.settings(timeouts={"first_byte": SHORT})
    scene.route("shop.test", [scene.silent()])
    assert (await scene.get("shop.test")).error == "first_byte_timeout"
    assert (await scene.get("nobody.test")).error == "unknown_host"
    assert {(Phase.RESPONSE, Phase.FINISHED), (Phase.ROUTE, Phase.FINISHED)} <= moves(recorded)
