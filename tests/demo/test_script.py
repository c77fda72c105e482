"""The script of `styx demo --once`: it passes, and it reports steps that fail."""

import pytest

from edge.demo import script
from edge.demo.script_client import ScriptReply, what_came, who_answered
from edge.demo.script_steps import STEPS, Result, Step
from tests.support.needs import CONTAINER_MAKES
from tests.support.processes.process_verbs import listens


@pytest.mark.parametrize("make", CONTAINER_MAKES)
async def test_all_steps_pass(run, make):
    ran = await run("demo", "--once", "--containers", make, deadline=100)
    assert ran.code == 0, ran.out + ran.err
    assert sum(line.startswith("✓ ") for line in ran.out.splitlines()) == len(STEPS) + 1
    assert f"all {len(STEPS)} steps came as expected, with {make} containers" in ran.out
    assert ran.err == ""


@pytest.mark.long
async def test_all_steps_pass_over_tls(run):
    ran = await run("demo", "--once", "--tls", deadline=100)
    assert ran.code == 0, ran.out + ran.err
    assert f"all {len(STEPS)} steps came as expected, with builtin containers and TLS" in ran.out
    assert ran.err == ""


@pytest.fixture
def play(capsys):
    """play(step function, ...) -> (exit status, output)."""

    async def played(*plays):
        steps = tuple(Step(f"step {number}", "bliss", step) for number, step in enumerate(plays, 1))
        code = await script.run_script("builtin", {}, steps)
        return code, capsys.readouterr().out

    return played


async def passing(context):
    return Result([ScriptReply(200, "", "b7c1", 0.01)])


async def test_a_step_that_fails_says_what_was_expected(play):
    async def refused(context):
        result = Result([await context.client.ask("nobody.localhost")])
        result.check_all_ok()
        return result

    code, printed = await play(passing, refused, passing)
    assert code == 1
    assert "✗  2  step 2" in printed
    assert "1 x 404 unknown_host" in printed
    assert "      expected: bliss\n      but: not every answer was 200: 404 unknown_host\n" in printed
    assert "✓  3  step 3" in printed
    assert "1 of 3 steps failed" in printed
    assert "The end of styx's log:" in printed


async def test_a_styx_that_dies_ends_the_script(play, until):
    async def died(context):
        context.styx.kill()
        await until(context.styx.ended.is_set)
        await until(lambda: not listens(context.styx.port))  # its worker has ended too
        return Result([await context.client.ask("nobody.localhost")])

    code, printed = await play(died, passing)
    assert code == 1
    assert "1 x cut ClientConnectorError" in printed
    assert "styx itself ended, with exit status -9" in printed
    assert "step 2" not in printed


async def test_a_step_that_never_ends_has_failed(play):
    async def for_ever(context):
        raise TimeoutError

    code, printed = await play(for_ever)
    assert code == 1
    assert "but: it did not end within" in printed


def test_replies_are_counted_by_status_and_container():
    replies = [ScriptReply(200, "", "a", 0.1)] * 3 + [
        ScriptReply(503, "all_refused", "", 0.1),
        ScriptReply(0, "Cut", "", 0.1),
    ]
    assert what_came(replies) == "3 x 200, 1 x 503 all_refused, 1 x cut Cut"
    assert who_answered(replies) == {"a": 3}
