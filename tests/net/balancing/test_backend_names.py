"""Host names of backends: who waits for a name server, and what is used when it does not answer."""

import asyncio
import socket
import threading

import pytest

from edge.net.balancing.backend_names import FRESH, LONGEST_STALE, BackendNames, system_addresses

AGAIN = socket.gaierror(socket.EAI_AGAIN, "no answer")
NO_NAME = socket.gaierror(socket.EAI_NONAME, "no such name")


class NameServer:
    """Answers when the test lets it."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        self.hanging = threading.Event()
        self.hanging.set()

    def resolve(self, name):
        self.asked.append(name)
        if name not in self.answers:
            self.hanging.wait()
            raise AGAIN
        answer = self.answers[name]
        if isinstance(answer, OSError):
            raise answer
        return answer


class Case:
    def __init__(self, threads=4):
        self.now = 1000.0
        self.server = NameServer()
        self.names = BackendNames(lambda: self.now, resolve=self.server.resolve, threads=threads)

    async def hang(self, *names, site="dead"):
        """Begin resolutions that do not end before `end`."""
        self.server.hanging.clear()
        self.tasks = [asyncio.create_task(self.names.addresses(name, site)) for name in names]
        await asyncio.sleep(0)

    async def end(self):
        self.server.hanging.set()
        await self.names.close()


async def test_many_connects_cost_one_resolution():
    case = Case()
    case.server.answers["a.test"] = ["192.0.2.1"]
    found = await asyncio.gather(*(case.names.addresses("a.test", "shop") for _ in range(50)))
    assert found == [["192.0.2.1"]] * 50
    case.now += FRESH / 2
    await case.names.addresses("a.test", "shop")
    assert case.server.asked == ["a.test"]
    case.now += FRESH
    case.server.answers["a.test"] = ["192.0.2.2"]
    assert await case.names.addresses("a.test", "shop") == ["192.0.2.2"], "it has moved"
    await case.end()


async def test_a_site_with_names_of_a_dead_zone_leaves_threads_for_others():
    case = Case(threads=4)
    await case.hang(*(f"{n}.dead.test" for n in range(100)))
    for n in range(10):
        case.server.answers[f"{n}.test"] = [f"192.0.2.{n}"]
        assert await case.names.addresses(f"{n}.test", f"site-{n}") == [f"192.0.2.{n}"]
    assert sum("dead" in name for name in case.server.asked) == 3
    await case.end()
    assert {type(result) for result in await asyncio.gather(*case.tasks, return_exceptions=True)} <= {
        socket.gaierror,
        asyncio.CancelledError,
    }


@pytest.mark.parametrize("fault", [AGAIN, None])
async def test_former_addresses_are_used_while_the_name_server_does_not_answer(fault):
    case = Case()
    case.server.answers["a.test"] = ["192.0.2.1"]
    await case.names.addresses("a.test", "shop")
    case.now += LONGEST_STALE / 2
    case.server.hanging.clear()
    if fault is None:
        del case.server.answers["a.test"]
    else:
        case.server.answers["a.test"] = fault
    for _ in range(3):
        assert await case.names.addresses("a.test", "shop") == ["192.0.2.1"]
    case.now += LONGEST_STALE
    case.server.hanging.set()
    with pytest.raises(socket.gaierror):
        await case.names.addresses("a.test", "shop")
    await case.end()


async def test_a_name_that_does_not_exist_any_more_is_not_used():
    case = Case()
    case.server.answers["a.test"] = ["192.0.2.1"]
    await case.names.addresses("a.test", "shop")
    case.now += 2.0 * FRESH
    case.server.answers["a.test"] = NO_NAME
    with pytest.raises(socket.gaierror):
        await case.names.addresses("a.test", "shop")
    await case.end()


async def test_a_connect_that_is_given_up_does_not_end_the_resolution_for_others():
    case = Case()
    await case.hang("a.test")
    other = asyncio.create_task(case.names.addresses("a.test", "shop"))
    await asyncio.sleep(0)
    case.tasks[0].cancel()
    await asyncio.sleep(0)
    case.server.answers["a.test"] = ["192.0.2.1"]
    case.server.hanging.set()
    with pytest.raises(socket.gaierror):
        await other
    assert await case.names.addresses("a.test", "shop") == ["192.0.2.1"]
    await case.end()


async def test_the_system_resolves_localhost():
    assert "127.0.0.1" in await BackendNames(lambda: 0.0).addresses("localhost", "shop")
    with pytest.raises((OSError, UnicodeError)):
        system_addresses("a" * 64 + ".test")
    with pytest.raises(OSError, match="label"):
        await BackendNames(lambda: 0.0).addresses("a" * 64 + ".test", "shop")
