"""For all tests: on CI (STYX_NO_SKIP=1) a skipped test is a failed one."""

import gc
import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from bench.lab.redis_server import RedisServer
from edge import BUILD
from edge.demo.free_ports import release_ports

# The time of one example is that of the machine. On CI the examples are the same in each run (hypothesis has `ci`).
settings.register_profile("styx", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("STYX_NO_SKIP") else "styx")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("STYX_NO_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may be: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """The garbage collector would look through the thousands of tests again and again: a third of the time that
    collecting them takes each process. Nor does it look at them while they run: they live until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only plain Python allows (`needs_plain`) when styx is compiled; check that `make long` finds
    what is long."""
    left_out = [item for item in items if item.get_closest_marker("plain") and BUILD == "compiled"]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for path in {item.path for item in items if item.get_closest_marker("long")}:
        if "mark.long" not in path.read_text():
            raise pytest.UsageError(f"{path} has long tests, but not the text mark.long, by which they are found")


def pytest_sessionfinish() -> None:
    """Release the ports of this process, in which nothing serves any more; those of other workers stay claimed."""
    release_ports()


@pytest.fixture(scope="session", autouse=True)
def runtime_directory(tmp_path_factory):
    """Edges that tests start have their admin sockets there, not in /run."""
    os.environ["RUNTIME_DIRECTORY"] = str(tmp_path_factory.mktemp("runtime"))


@pytest.fixture
async def engine(tmp_path):
    """A running redis-server."""
    server = RedisServer(tmp_path)
    await server.start()
    yield server
    await server.stop()
