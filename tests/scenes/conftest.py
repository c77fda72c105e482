"""A scene for each test, on uvloop, as in production."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from edge.net.checked_exchange import checked_exchange
from edge.net.h1 import h1_connection
from tests.support.scene import Scene

CHECKED = checked_exchange()


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every move of an exchange from phase to phase is held against the table."""
    monkeypatch.setattr(h1_connection, "new_exchange", CHECKED)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: scene.faults.append(context))
    yield scene
    await scene.end()
