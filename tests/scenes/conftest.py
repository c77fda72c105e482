"""A scene for each test, on uvloop, as in production."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from edge.net.checked_exchange import CheckedExchange
from edge.net.h1 import h1_connection
from edge.net.h2 import h2_stream
from tests.support.both_kinds import has_both_kinds
from tests.support.scene import Scene


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every move of an exchange from phase to phase is held against the table."""
    monkeypatch.setattr(h1_connection, "new_exchange", CheckedExchange)
    monkeypatch.setattr(h2_stream, "new_exchange", CheckedExchange)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Some scenes are played with clients of HTTP/1.1 and of HTTP/2."""
    name = f"{metafunc.module.__name__.rpartition('.')[2]}.{metafunc.function.__name__}"
    if "kind" in metafunc.fixturenames and has_both_kinds(name):
        metafunc.parametrize("kind", ["h1", "h2"], indirect=True)


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """The version of HTTP of the clients of a scene."""
    return getattr(request, "param", os.environ.get("KIND", "h1"))


@pytest.fixture
async def scene(kind: str) -> AsyncIterator[Scene]:
    scene = Scene(kind)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: scene.faults.append(context))
    yield scene
    await scene.end()
