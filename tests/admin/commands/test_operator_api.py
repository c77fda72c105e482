"""Addresses about the edge itself: who may change the log level, to what and for how long."""

import json

import pytest

from edge.admin.commands.operator_api import LEVELS, MOST_SECONDS


async def test_the_settings_in_force(admin):
    _, body = await admin.get("/v1/config")
    [setting] = json.loads(body)["settings"]
    assert (setting["path"], setting["variables"]) == ("timeouts.head", ["HEAD_TIMEOUT"])


async def test_the_log_level_is_read_by_all_and_set_by_those_who_may_act(admin):
    _, body = await admin.get("/v1/log-level")
    assert json.loads(body)["admin"]["level"] == "info"
    wanted = b'{"level": "debug", "seconds": 600}'
    assert (await admin.get("/v1/log-level", "POST", wanted))[0].status == 403
    assert not hasattr(admin.control_api, "level_set")
    response, _ = await admin.act("/v1/log-level", wanted)
    assert (response.status, admin.control_api.level_set) == (200, ("debug", 600))


@pytest.mark.parametrize("seconds", [-1, MOST_SECONDS + 1])
async def test_an_override_has_a_bound(admin, seconds):
    answer = await admin.act("/v1/log-level", json.dumps({"level": "debug", "seconds": seconds}))
    _, detail = admin.refused(answer, 422)
    assert str(MOST_SECONDS) in detail


async def test_levels(admin):
    _, detail = admin.refused(await admin.act("/v1/log-level", b'{"level": "loud", "seconds": 1}'), 422)
    assert all(level in detail for level in LEVELS)
    assert (await admin.act("/v1/log-level", b'{"level": "", "seconds": 0}'))[0].status == 200  # ends it
