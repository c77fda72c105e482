"""A scene for each test, on uvloop, as in production."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from tests.support.scene import Scene


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: scene.faults.append(context))
    yield scene
    await scene.end()
