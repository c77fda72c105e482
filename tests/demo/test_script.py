"""The script of `styx demo --once`: that it comes out well, and that it tells when it does not."""

import pytest

from edge.demo import script
from edge.demo.script_client import ScriptReply, what_came, who_answered
from edge.demo.script_steps import STEPS, Result, Step
from edge.platform.containers import ContainerFailed
from edge.platform.nginx_container import Binaries
from tests.support.processes.process_verbs import listens

try:
    Binaries.find()
    MISSING = ""
except ContainerFailed as failure:
    MISSING = str(failure)

MAKES = [
    "builtin",
    pytest.param("nginx", marks=pytest.mark.skipif(bool(MISSING), reason=MISSING or "nothing is missing")),
]


@pytest.mark.parametrize("make", MAKES)
async def test_all_comes_as_expected(run, make):
    ran = await run("demo", "--once", "--containers", make, deadline=100)
    assert ran.code == 0, ran.out + ran.err
    assert sum(line.startswith("✓ ") for line in ran.out.splitlines()) == len(STEPS) + 1
    assert f"all {len(STEPS)} steps came as expected, with {make} containers" in ran.out
    assert ran.err == ""


@pytest.fixture
def play(capsys):
    """play(step function, ...) -> (exit code, what was printed)."""

    async def played(*plays):
        steps = tuple(Step(f"step {number}", "bliss", step) for number, step in enumerate(plays, 1))
        code = await script.run_script("builtin", {}, steps)
        return code, capsys.readouterr().out

    return played


async def well(stage):
    return Result([ScriptReply(200, "", "b7c1", 0.01)])


async def test_a_step_that_fails_says_what_was_expected(play):
    async def refused(stage):
        result = Result([await stage.client.ask("nobody.localhost")])
        result.check_all_well()
        return result

    code, told = await play(well, refused, well)
    assert code == 1
    assert "✗  2  step 2" in told
    assert "1 x 404 unknown_host" in told
    assert "      expected: bliss\n      but: not every answer was 200: 404 unknown_host\n" in told
    assert "✓  3  step 3" in told
    assert "1 of 3 steps failed" in told
    assert "The end of styx's log:" in told


async def test_a_styx_that_dies_ends_the_script(play, until):
    async def died(stage):
        stage.styx.kill()
        await until(stage.styx.ended.is_set)
        await until(lambda: not listens(stage.styx.port))  # its worker has noticed
        return Result([await stage.client.ask("nobody.localhost")])

    code, told = await play(died, well)
    assert code == 1
    assert "1 x cut ClientConnectorError" in told
    assert "styx itself ended, with exit status -9" in told
    assert "step 2" not in told


async def test_a_step_that_never_ends_has_failed(play):
    async def for_ever(stage):
        raise TimeoutError

    code, told = await play(for_ever)
    assert code == 1
    assert "but: it did not end within" in told


def test_replies_are_told_by_status_and_container():
    replies = [ScriptReply(200, "", "a", 0.1)] * 3 + [
        ScriptReply(503, "all_refused", "", 0.1),
        ScriptReply(0, "Cut", "", 0.1),
    ]
    assert what_came(replies) == "3 x 200, 1 x 503 all_refused, 1 x cut Cut"
    assert who_answered(replies) == {"a": 3}
