"""A scene for each test, on uvloop, as in production."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
import uvloop

from edge.net.checked_exchange import checked_exchange
from edge.net.h1 import h1_connection
from edge.net.h2 import h2_stream
from edge.net.limits.idle_connections import IdleConnections
from edge.run import context_setup
from tests.support.both_kinds import has_both_kinds, is_for_h1_only
from tests.support.scene import Scene

CHECKED = checked_exchange()


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every move of an exchange from phase to phase is held against the table."""
    monkeypatch.setattr(h1_connection, "checked", CHECKED)
    monkeypatch.setattr(h2_stream, "new_exchange", CHECKED)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Some scenes are played with clients of HTTP/1.1 and of HTTP/2."""
    if "kind" in metafunc.fixturenames and has_both_kinds(metafunc.module.__name__.rpartition(".")[2]):
        metafunc.parametrize("kind", ["h1", "h2"], indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out those that HTTP/2 does not have."""
    items[:] = [item for item in items if not (isinstance(item, pytest.Function) and _is_left_out(item))]


def _is_left_out(item: pytest.Function) -> bool:
    callspec = getattr(item, "callspec", None)
    if callspec is None or callspec.params.get("kind") != "h2" or item.module is None:
        return False
    case = callspec.id.removeprefix("h2").strip("-")
    return is_for_h1_only(item.module.__name__.rpartition(".")[2], item.originalname, case)


@pytest.fixture
def nobody_idles(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is closed for another one because the machine was busy for the second that makes it idle."""
    monkeypatch.setattr(context_setup, "IdleConnections", partial(IdleConnections, settling=3600.0))


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """The version of HTTP of the clients of a scene."""
    return getattr(request, "param", "h1")


@pytest.fixture
async def scene(kind: str) -> AsyncIterator[Scene]:
    scene = Scene(kind)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: scene.faults.append(context))
    yield scene
    await scene.end()
