"""styx without any platform: routes in a watched file. Whatever happens to the file, sites keep being served."""

import asyncio
import os
import resource
import signal

import pytest

from tests.run.test_reload import reload
from tests.support.processes.edges import children, edge, events, told
from tests.support.processes.process_verbs import is_alive
from tests.support.processes.route_file_edge import KNOWN, RouteFile, clients, status, statuses, until_it_is

HELD_BACK = "routes_file_held_back"
NOT_USED = "routes_file_not_used"
UNREADABLE = "routes_file_unreadable"
TAKEN_OVER = "routes_file_taken_over"
BROKEN = "routes: nonsense"


@pytest.fixture
def file(tmp_path, platform):
    [container] = platform.containers("acme")
    (tmp_path / "here").mkdir()
    file = RouteFile(tmp_path / "here" / "routes.yaml", container.port, container.spec.id)
    file.replace(*KNOWN)
    return file


def an_edge(file, **changes):
    return edge(core_api=f"file:{file.path}", **changes)


async def test_served_from_a_file_that_changes(file, until):
    file.replace("a.test", "live-acme.localhost")
    async with an_edge(file) as styx:
        assert await status(styx, "live-acme.localhost") == 200
        assert await status(styx, "b.test") == 404
        file.replace("live-acme.localhost", "b.test")
        await until_it_is(styx, "a.test", 404)
        assert await status(styx, "b.test") == 200
        file.path.write_text(BROKEN)
        await until(lambda: told(styx, NOT_USED))
        [event] = told(styx, NOT_USED)
        assert event["code"] == "routes_file_not_used"
        assert event["faults"] == [f"{file.path}:1:9: routes: must be a list, not 'nonsense'"]
        assert await status(styx, "live-acme.localhost") == 200


EMPTY = ("", " \n\n", "# nothing here\n", "{}\n", "routes: []\n", "routes:\n  # - hostnames: [a.test]\n")


async def test_an_emptied_file_changes_nothing_until_a_reload(run, file, until):
    async with an_edge(file) as styx, clients(styx) as got:
        for n, text in enumerate(EMPTY):
            event = NOT_USED if text.startswith("routes:\n") else HELD_BACK
            file.path.write_text(text)
            await until(lambda event=event, n=n: len(told(styx, event)) == (1 if event == NOT_USED else n + 1))
            assert await statuses(styx, times=2) == {200}
            if n == 0:
                [one] = told(styx, HELD_BACK)
                assert (one["code"], one["level"]) == ("routes_file_held_back", "error")
                assert (one["removed"], one["added"], one["changed"]) == (len(KNOWN), 0, 0)
                assert 25 < one["taken_over_in"] <= 29
            if event == HELD_BACK:  # else it would be the same to look at
                file.replace(*KNOWN, f"new-{n}.test")
                await until_it_is(styx, f"new-{n}.test", 200)
        assert set(got) == {200}


async def test_an_emptied_file_is_taken_over_after_removal_hold(file, until):
    async with an_edge(file, more="routes: {removal_hold: 1500ms}") as styx:
        assert await statuses(styx) == {200}
        file.path.write_text("")
        await until(lambda: told(styx, HELD_BACK))
        assert await statuses(styx) == {200}
        await until_it_is(styx, KNOWN[0], 404)
        assert await statuses(styx, times=2) == {404}
        [event] = told(styx, TAKEN_OVER)
        assert (event["level"], event["removed"], event["by_reload"]) == ("warning", len(KNOWN), False)


async def test_more_than_half_of_the_hostnames_are_held_back_and_come_back(file, until):
    async with an_edge(file) as styx, clients(styx) as got:
        file.replace(*KNOWN[:9], "new.test")
        await until(lambda: told(styx, HELD_BACK))
        [event] = told(styx, HELD_BACK)
        assert (event["removed"], event["added"]) == (11, 1)
        assert await status(styx, "new.test") == 404, "a content is never taken over in parts"
        file.replace(*KNOWN, "new.test")
        await until_it_is(styx, "new.test", 200)
        assert set(got) == {200}


async def test_a_hostname_without_backends_is_held_back_like_one_that_is_gone(file, until):
    async with an_edge(file) as styx, clients(styx) as got:
        file.path.write_text("routes:\n" + "".join(f"  - hostnames: [{host}]\n" for host in KNOWN))
        await until(lambda: told(styx, HELD_BACK))
        assert set(got) == {200}


async def test_a_file_that_is_rewritten_in_place_loses_nothing(file, until):
    async with an_edge(file) as styx:
        assert await statuses(styx) == {200}
        async with clients(styx) as got:
            for n in range(10):
                with file.path.open("w") as writing:
                    writing.flush()
                    await asyncio.sleep(0.15)  # what such a program does, and what others see meanwhile
                    writing.write(file.text([*KNOWN, *(f"new-{m}.test" for m in range(n + 1))]))
                await until_it_is(styx, f"new-{n}.test", 200)
        assert set(got) == {200}
        assert got.total() > 100
        assert not told(styx, HELD_BACK), "it was not so for long enough to be told"


async def test_a_worker_that_starts_while_the_file_is_broken_knows_what_the_others_know(file, until):
    async with an_edge(file) as styx:
        file.path.write_text(BROKEN)
        await until(lambda: told(styx, NOT_USED))
        async with clients(styx) as got:
            for name in ("worker 0", "worker 1"):
                before = children(styx.pid)[name]
                os.kill(before, signal.SIGKILL)
                await until(lambda name=name, before=before: children(styx.pid).get(name, before) != before)
            await styx.workers()
            assert await statuses(styx, times=4) == {200}
        assert set(got) <= {200, 0}, "0: killed with the request in hand"
        assert got[0] < 10


async def workers_killed(styx, until):
    """Kill all workers at once. Returns when there are others."""
    before = {pid for name, pid in children(styx.pid).items() if name.startswith("worker")}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: len({n for n, pid in children(styx.pid).items() if pid not in before}) >= 1 + len(before))
    return before


async def test_the_admin_process_dies_while_the_file_is_broken_and_its_successor_knows(file, until):
    async with an_edge(file) as styx, clients(styx) as got:
        file.path.write_text(BROKEN)
        await until(lambda: told(styx, NOT_USED))
        admin = children(styx.pid)["admin"]
        os.kill(admin, signal.SIGSTOP)  # it cannot tell a worker anything
        before = await workers_killed(styx, until)
        assert await statuses(styx, times=2) == {200}, "from disk"
        assert before.isdisjoint(children(styx.pid).values())
        os.kill(admin, signal.SIGKILL)
        await until(lambda: len(told(styx, NOT_USED)) == 2)
        await styx.workers()
        assert await statuses(styx, times=4) == {200}
        file.replace(*KNOWN, "new.test")
        await until_it_is(styx, "new.test", 200)
        assert set(got) <= {200, 0}, "0: killed with the request in hand"
        assert got[0] < 10


async def test_its_directory_is_out_of_reach_for_a_while(file, until):
    async with an_edge(file) as styx, clients(styx) as got:
        away = file.path.parent.with_name("away")
        file.path.parent.rename(away)
        await until(lambda: told(styx, UNREADABLE))
        assert len(told(styx, UNREADABLE)) == 1, "once, and not at every try"
        # Another directory is put there: nobody watches it yet.
        file.path.parent.mkdir()
        file.replace(*KNOWN, "new.test")
        await until_it_is(styx, "new.test", 200)
        await until(lambda: told(styx, "routes_file_usable"))
        file.replace(*KNOWN, "newer.test")
        await until_it_is(styx, "newer.test", 200)
        assert set(got) == {200}


async def test_no_descriptor_is_available_at_the_first_read(file, platform, until):
    async with edge(core_api=platform.core_api_url) as styx, clients(styx, ["live-acme.localhost"]) as got:
        admin = children(styx.pid)["admin"]
        before = resource.prlimit(admin, resource.RLIMIT_NOFILE)
        resource.prlimit(admin, resource.RLIMIT_NOFILE, (3, before[1]))  # it has those that it has, and no more
        file.replace(*KNOWN, "live-acme.localhost")
        styx.file.write_text(styx.file.read_text().replace(platform.core_api_url, f"file:{file.path}"))
        styx.send_signal(signal.SIGHUP)
        await until(lambda: told(styx, UNREADABLE))
        assert await status(styx, KNOWN[0]) == 404, "the core API is asked until then"
        resource.prlimit(admin, resource.RLIMIT_NOFILE, before)
        await until_it_is(styx, KNOWN[0], 200)
        assert set(got) == {200}


async def test_hostnames_come_and_go_for_all_workers_at_the_same_time(file):
    """A new one was requested before, so every worker has it as an unknown host."""
    file.replace(*KNOWN, "old-0.test")
    async with an_edge(file, workers=3) as styx:
        for n in range(4):
            comes, goes = f"old-{n + 1}.test", f"old-{n}.test"
            assert await statuses(styx, [goes], times=16) == {200}
            assert await statuses(styx, [comes], times=16) == {404}
            file.replace(*KNOWN, comes)
            seen = False
            while True:
                gone = await status(styx, goes) == 404
                there = await status(styx, comes)
                assert there == 200 or not (gone or seen), "one worker knew it, or that the other is gone"
                seen = seen or there == 200
                if gone:
                    break
            assert await statuses(styx, [goes], times=16) == {404}
            assert await statuses(styx, [comes, *KNOWN], times=16) == {200}


async def test_all_workers_have_it_from_one_reader(file):
    async with an_edge(file, workers=3) as styx:
        file.replace(*KNOWN, "new.test")
        await until_it_is(styx, "new.test", 200)
        assert await statuses(styx, times=8) == {200}
        assert len(told(styx, TAKEN_OVER)) == 1
        assert not [event for event in events(styx) if "generation" in str(event)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("routes:\n  - hostnames: [a..test]\n", "2:17: routes.0.hostnames.0: cannot be a hostname"),
        ("", "1:1: routes: no hostname: every request would be answered 404"),
        ("# nothing\nroutes: []\n", "2:9: routes: no hostname: every request would be answered 404"),
    ],
)
async def test_a_bad_or_empty_file_is_reported_before_the_start(call, run, tmp_path, file, text, fault):
    file.path.write_text(text)
    config = tmp_path / "styx.yaml"
    config.write_text(f'listeners: [{{address: "127.0.0.1:0"}}]\ncore_api: {{url: "file:{file.path}"}}\n')
    checked = await call("check", "-c", config)
    assert checked.code == 2
    assert f"{config}:2:17: core_api.url: {file.path}:{fault}" in checked.err
    assert await run("serve", "-c", config) == checked


async def test_a_reload_takes_over_the_file_or_reports_its_faults(call, file):
    async with an_edge(file) as styx:
        file.path.write_text(BROKEN)
        ran = await reload(call, styx)
        wrong = f"{styx.file}:2:17: core_api.url: {file.path}:1:9: routes: must be a list, not 'nonsense'"
        assert (ran.code, ran.err) == (1, f"{wrong}\n")
        assert await statuses(styx) == {200}
        file.replace(KNOWN[0])
        ran = await reload(call, styx)
        assert (ran.code, ran.out) == (0, "file of routes: 0 hostnames added, 19 removed, 0 changed\n")
        assert await status(styx, KNOWN[0]) == 200
        assert await statuses(styx, KNOWN[1:]) == {404}
        assert (await reload(call, styx)).out == "nothing changed\n"
        file.path.write_text("")
        ran = await reload(call, styx)
        assert (ran.code, ran.out) == (0, "file of routes: 0 hostnames added, 1 removed, 0 changed\n")
        assert await statuses(styx) == {404}


async def test_from_a_core_api_to_a_file_by_a_reload_and_back(file, platform, until):
    file.replace(*KNOWN, "live-acme.localhost")
    async with edge(core_api=platform.core_api_url) as styx, clients(styx, ["live-acme.localhost"]) as got:
        assert await status(styx, KNOWN[0]) == 404
        there = styx.file.read_text()
        styx.file.write_text(there.replace(platform.core_api_url, f"file:{file.path}"))
        styx.send_signal(signal.SIGHUP)
        await until(lambda: told(styx, "reloaded"))
        await until_it_is(styx, KNOWN[0], 200)
        styx.file.write_text(there)
        styx.send_signal(signal.SIGHUP)
        await until(lambda: len(told(styx, "reloaded")) == 2)
        await until_it_is(styx, KNOWN[0], 404)
        assert set(got) == {200}


async def test_an_edge_that_is_started_again_has_the_routes_from_disk(call, file, until, tmp_path):
    directory = tmp_path / "kept"
    async with an_edge(file, more=f'routes: {{directory: "{directory}"}}') as styx:
        assert await statuses(styx) == {200}
        workers = await styx.workers()
    assert not any(map(is_alive, workers))
    assert (directory / "routes.table").exists()
    async with an_edge(file, more=f'routes: {{directory: "{directory}"}}') as again:
        assert await statuses(again, times=2) == {200}
        assert not told(again, TAKEN_OVER), "the file says what was kept"
        ran = await call("explain", KNOWN[0], "--admin", again.settings.admin.address)
        assert "from the file of routes; " in ran.out


async def test_a_damaged_table_on_disk_is_logged_and_does_no_harm(file, tmp_path):
    directory = tmp_path / "kept"
    directory.mkdir()
    (directory / "routes.table").write_bytes(b"GIF89a, or what else may lie there")
    async with an_edge(file, more=f'routes: {{directory: "{directory}"}}') as styx:
        assert await statuses(styx, times=2) == {200}
        assert {event["code"] for event in told(styx, "routes_table_unreadable")} == {"routes_table_unreadable"}
        assert (directory / "routes.table").read_bytes().startswith(b"styx route set 1\n")
