"""Real clients, a real worker, real servers: the fixtures that bring them together."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from tests.real.real_programs import HERE, Ran, Running, Server, program
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


# clients

Start = Callable[..., Awaitable[Running]]
Run = Callable[..., Awaitable[Ran]]


@pytest.fixture
async def start(scene: Scene, tmp_path: Path) -> AsyncIterator[Start]:
    """start("curl", ...) -> Running; ended with the test."""
    running: list[Running] = []

    async def started(name: str, *args: object) -> Running:
        running.append(await Running.start(name, *args, home=tmp_path))
        return running[-1]

    yield started
    for client in running:
        await client.kill()


@pytest.fixture
def run(start: Start) -> Run:
    """run("curl", ...) -> Ran: to its end."""

    async def ran(name: str, *args: object) -> Ran:
        return await (await start(name, *args)).to_the_end()

    return ran


# backends


@asynccontextmanager
async def serving(scene: Scene, server: Server) -> AsyncIterator[Server]:
    """With the edge before it, until the end of the block."""
    try:
        await server.stand_behind(scene)
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def node_site(scene: Scene, tmp_path: Path) -> AsyncIterator[Server]:
    """site.js on Node."""
    node = program("node")
    server = Server.spawn("node", lambda fd, _: [node, str(HERE / "site.js"), str(fd)], home=tmp_path)
    async with serving(scene, server):
        yield server


@pytest.fixture
async def asgi_site(scene: Scene, tmp_path: Path) -> AsyncIterator[Server]:
    """site_app.py on uvicorn."""
    options = (
        "--ws",
        "websockets-sansio",
        "--lifespan",
        "off",
        "--no-access-log",
        "--forwarded-allow-ips",
        "127.0.0.1",
    )

    def command(fd: int, _: int) -> list[str]:
        return [sys.executable, "-m", "uvicorn", "tests.real.site_app:app", "--fd", str(fd), *options]

    server = Server.spawn("uvicorn", command, home=tmp_path)
    async with serving(scene, server):
        yield server


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """The documents of nginx_site."""
    docs = tmp_path / "docs"
    docs.mkdir()
    return docs


@pytest.fixture
async def nginx_site(scene: Scene, tmp_path: Path, docs: Path) -> AsyncIterator[Server]:
    """nginx with nginx_site.conf: static files, and a log of connections in access.log."""
    nginx = program("nginx")

    def command(fd: int, port: int) -> list[str]:
        marks = {"@DIR@": tmp_path, "@PORT@": port, "@USER@": "user root;" if os.geteuid() == 0 else ""}
        text = (HERE / "nginx_site.conf").read_text()
        for mark, value in marks.items():
            text = text.replace(mark, str(value))
        path = tmp_path / "nginx.conf"
        path.write_text(text)
        return ["env", f"NGINX={fd};", nginx, "-e", str(tmp_path / "nginx.log"), "-c", str(path)]

    server = Server.spawn("nginx", command, home=tmp_path)
    async with serving(scene, server):
        yield server
