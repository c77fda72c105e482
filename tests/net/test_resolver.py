"""Questions to the core API: one a hostname, so many at once, none too long."""

import asyncio

import pytest

from edge.net import resolver as resolver_module
from edge.net.core_api import CoreAnswer, CoreApiError
from edge.net.resolver import Resolver
from edge.rules.environments import Environments
from edge.rules.routes import RouteAnswer, RouteTable
from edge.rules.settings import CoreApiSettings, DemeritSettings, RetrySettings, RouteSettings
from tests.net.fake_wires import turns


class CoreApiDouble:
    """Answers when the test says so."""

    def __init__(self):
        self.asked = []
        self.answers = {}
        self.timeouts = 0
        self.closed = False

    async def ask(self, hostname, etag):
        self.asked.append(hostname)
        self.answers[hostname] = answer = asyncio.get_running_loop().create_future()
        return await answer

    def say(self, hostname, *, generation=1):
        route = RouteAnswer(hostname, "site", "live", generation, ())
        self.answers[hostname].set_result(CoreAnswer(route, False, "max-age=60", None))

    def timed_out(self):
        self.timeouts += 1

    async def close(self):
        self.closed = True


class Case:
    def __init__(self, **settings):
        self.core = CoreApiDouble()
        self.now = 1000.0
        self.told = []
        self.resolver = Resolver(
            CoreApiSettings(url="http://127.0.0.1:1", **settings),
            table=RouteTable(RouteSettings(jitter=0.0)),
            environments=Environments(DemeritSettings(), RetrySettings()),
            core_api=self.core,
            clock=lambda: self.now,
            rand=lambda: 0.0,
        )

    def resolve(self, hostname):
        self.resolver.resolve(hostname, self.told.append)


async def test_asked_once_and_told_to_all():
    case = Case()
    for _ in range(50):
        case.resolve("a.test")
    await turns()
    assert case.core.asked == ["a.test"]
    assert not case.told
    case.core.say("a.test")
    await turns()
    assert len(case.told) == 50
    assert {route.answer.hostname for route in case.told} == {"a.test"}
    case.resolve("a.test")
    await turns()
    assert case.core.asked == ["a.test"] * 2, "the next question is a new one"
    await case.resolver.close()


async def test_questions_that_wait_are_bounded(monkeypatch):
    monkeypatch.setattr(resolver_module, "MAX_WAITING", 3)
    case = Case()
    for n in range(5):
        case.resolve(f"{n}.test")
    assert case.told == [None, None], "could not ask, told at once"
    await turns()
    assert case.core.asked == ["0.test", "1.test", "2.test"]
    await case.resolver.close()


async def test_another_hostname_is_another_question():
    case = Case()
    for name in ("a.test", "b.test", "a.test"):
        case.resolve(name)
    await turns()
    assert case.core.asked == ["a.test", "b.test"]
    await case.resolver.close()
    assert case.core.closed


async def test_deadline():
    case = Case(timeout=0.02)
    case.resolve("a.test")
    await asyncio.wait_for(told(case), 5)
    assert case.told == [None]
    assert case.core.timeouts == 1
    case.resolve("a.test")
    await turns()
    case.core.say("a.test")
    await turns()
    assert case.told[1].answer.hostname == "a.test"


async def test_the_deadline_includes_the_wait_for_a_turn():
    case = Case(timeout=0.02, concurrency=1)
    case.resolve("a.test")
    case.resolve("b.test")
    await turns()
    assert case.core.asked == ["a.test"]
    await asyncio.wait_for(told(case, 2), 5)
    assert case.told == [None, None]


async def test_so_many_at_once():
    case = Case(concurrency=2)
    for name in "abcd":
        case.resolve(f"{name}.test")
    await turns()
    assert case.core.asked == ["a.test", "b.test"]
    case.core.say("a.test")
    await turns(10)
    assert case.core.asked == ["a.test", "b.test", "c.test"]
    await case.resolver.close()
    assert len(case.told) == 4


@pytest.mark.parametrize("hostname", ["-a.test", "a..b", "", "x" * 64, "ä.test"])
async def test_impossible_ones_are_not_asked_for(hostname):
    case = Case()
    case.resolve(hostname)
    assert len(case.told) == 1
    assert case.told[0].answer is None
    assert not case.core.asked


async def test_an_error_leaves_what_was_known():
    case = Case()
    case.resolve("a.test")
    await turns()
    case.core.say("a.test")
    await turns()
    case.now += 100.0
    case.resolve("a.test")
    await turns()
    case.core.answers["a.test"].set_exception(CoreApiError("status 500"))
    await turns()
    assert case.told[1] is case.told[0]
    assert case.told[1].last_error == "status 500"


async def test_a_background_question_is_not_doubled():
    case = Case()
    case.resolve("a.test")
    await turns()
    case.core.say("a.test")
    await turns()
    [route] = case.told
    case.now += 100.0
    for _ in range(10):
        case.resolver.refresh("a.test", route, case.now)
    await turns()
    assert len(case.core.asked) == 2
    case.core.answers["a.test"].set_exception(CoreApiError("status 500"))
    await turns()
    case.resolver.refresh("a.test", route, case.now)
    await turns()
    assert len(case.core.asked) == 2, "a pause after a failure"
    case.now += 5.0
    case.resolver.refresh("a.test", route, case.now)
    await turns()
    assert len(case.core.asked) == 3
    await case.resolver.close()


async def test_forced_questions_are_few():
    case = Case()
    case.resolve("a.test")
    await turns()
    case.core.say("a.test")
    await turns()
    [route] = case.told
    allowed = [case.resolver.may_force("a.test", route, case.now) for _ in range(7)]
    assert allowed == [True] * 5 + [False] * 2
    case.resolver.ask_ahead("a.test")
    await turns()
    case.core.say("a.test", generation=2)
    await turns()
    route = case.resolver.table.get("a.test")
    assert not case.resolver.may_force("a.test", route, case.now + 0.5), "an answer does not fill the bucket"
    assert case.resolver.may_force("a.test", route, case.now + 1.5)
    assert not case.resolver.may_force("a.test", route, case.now + 1.5)
    await case.resolver.close()


async def told(case, count=1):
    while len(case.told) < count:  # noqa: ASYNC110 - a list rings no bell
        await asyncio.sleep(0.001)
