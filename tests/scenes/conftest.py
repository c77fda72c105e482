"""A scene for each test, on uvloop, as in production."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from edge.net.checked_exchange import CheckedExchange
from edge.net.h1 import h1_connection
from edge.net.h2 import h2_stream
from tests.support.scene import Scene


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every move of an exchange from phase to phase is held against the table."""
    monkeypatch.setattr(h1_connection, "new_exchange", CheckedExchange)
    monkeypatch.setattr(h2_stream, "new_exchange", CheckedExchange)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Scenes of modules with `both_kinds` are played with clients of HTTP/1.1 and of HTTP/2; `h1_only` excepts those
    about what HTTP/2 does not have."""
    markers = {mark.name for mark in metafunc.definition.iter_markers()}
    if "kind" in metafunc.fixturenames and "both_kinds" in markers and "h1_only" not in markers:
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
