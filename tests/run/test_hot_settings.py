"""Each hot setting reaches its user.

A worker that has reconfigured itself must be in the same state as one that was started with the new value; the
settings that other processes use are changed in a running edge.
"""

import asyncio
import os
import re
import signal
import types
from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import partial
from ipaddress import IPv4Network
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from edge.rules.settings import Section, Settings
from edge.rules.settings.section import OnReload, fields_of, reload_of
from edge.run.worker import Worker
from tests.support.processes.edges import Kept, edge
from tests.support.processes.process_verbs import ROOT, is_alive

NEEDED: dict[str, Any] = {"listeners": ({"address": "127.0.0.1:0"},), "core_api": {"url": "http://127.0.0.1:9"}}
NOT_STATE = frozenset({"request_ids", "_request_ids", "row", "_counts"})
"Attributes that differ between any two workers: random beginnings of request ids, and the scoreboard."
BY_HAND = {
    "core_api.url": "http://127.0.0.1:10",
    "core_api.token_file": "/etc/styx/token",
    "core_api.backend_networks": (IPv4Network("10.0.0.0/8"),),
    "core_api.unix_backends": False,
    "pages.directory": "/etc/styx/pages",
}
ELSEWHERE = {
    "watchdog": ("watchdog: 60s", "watchdog: 500ms"),
    "drain.delay": ("delay: 61s", "delay: 50ms"),
    "drain.timeout": ("timeout: 99s", "timeout: 98s"),
    "drain.idle": ("idle: 60s", "idle: 50ms"),
    "pages.directory": ("directory: null", f"directory: {ROOT}/docs"),
    "log.level": ("level: error", "level: info"),
    "log.format": ("format: json", "format: console"),
    "core_api.changes": ("changes: false", "changes: true"),
}
"Hot settings that other processes use, with text of a configuration before and after."
HOT = [path for path, field in fields_of(Settings) if reload_of(field) is OnReload.SWAP]
FIELDS = dict(fields_of(Settings))


def with_value(path: str, value: object) -> Settings:
    """The smallest configuration with this setting. Raises ValidationError."""
    *section, name = path.split(".")
    values = {name: value}
    for outer in section:
        values = {outer: {**NEEDED.get(outer, {}), **values}}
    return Settings.model_validate({**NEEDED, **values})


def changed(path: str, field: FieldInfo) -> Settings:
    """Settings in which only this one has another value than by default."""
    for value in [BY_HAND[path]] if path in BY_HAND else candidates(field):
        try:
            settings = with_value(path, value)
        except ValidationError:
            continue
        if settings != Settings.model_validate(NEEDED):
            return settings
    raise AssertionError(f"no other value found for {path}")


def candidates(field: FieldInfo) -> Iterable[object]:
    """Values one of which should be possible, and is not the default."""
    if get_origin(field.annotation) is Literal:
        return get_args(field.annotation)
    if field.annotation is bool:
        return (True, False)
    kind = field.annotation
    assert kind in (int, float)
    return (
        kind(field.default * 1.25),
        kind(field.default * 0.75),
        kind(field.default + 1),
        kind(field.default / 2),
    )


class State:
    """The values that are reachable from an object, as nested lists: attributes of the classes of styx, members of
    containers, and what functions hold. `without`: names of attributes that are left out."""

    def __init__(self, *without: str) -> None:
        self._without = NOT_STATE.union(without)
        self._seen: dict[int, int] = {}
        self._kept: list[object] = []

    def of(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float | str | bytes | Enum):
            return value
        if id(value) in self._seen:
            return f"see {self._seen[id(value)]}"
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        if isinstance(value, Section):
            return [type(value).__name__, *(self.of(item) for item in value)]
        if isinstance(value, Mapping):
            return [type(value).__name__, *([self.of(key), self.of(item)] for key, item in value.items())]
        if isinstance(value, list | tuple | deque):
            return [type(value).__name__, *(self.of(item) for item in value)]
        if isinstance(value, set | frozenset):
            return [type(value).__name__, *sorted(repr(item) for item in value)]
        if isinstance(value, types.MethodType):
            return [value.__name__, self.of(value.__self__)]
        if isinstance(value, partial):
            return ["partial", self.of(value.func), self.of(value.args), self.of(value.keywords)]
        if isinstance(value, types.FunctionType):
            return [value.__qualname__, *(self.of(cell.cell_contents) for cell in value.__closure__ or ())]
        if type(value).__module__.startswith("edge."):
            return [type(value).__name__, *([name, self.of(item)] for name, item in self._attributes(value))]
        return type(value).__name__ if type(value).__module__ != "ipaddress" else str(value)

    def _attributes(self, value: object) -> Iterable[tuple[str, object]]:
        names = [*getattr(value, "__dict__", ())]
        for kind in type(value).__mro__:
            names += getattr(kind, "__slots__", ())
        for name in names:
            if name not in self._without and hasattr(value, name):
                yield name, getattr(value, name)


def state(worker: Worker, *without: str) -> object:
    return State(*without).of(worker)


def new_worker(settings: Settings) -> Worker:
    return Worker(settings, clock=clock)


def clock() -> float:
    return 1000.0


@pytest.mark.parametrize("path", HOT)
async def test_a_worker_that_reconfigures_itself_is_like_a_new_one(path):
    settings = changed(path, FIELDS[path])
    reconfigured, new = new_worker(Settings.model_validate(NEEDED)), new_worker(settings)
    reconfigured.reconfigure(settings)
    assert state(reconfigured) == state(new)


async def test_settings_that_no_worker_uses_are_used_by_another_process():
    """A worker uses them only as part of the whole settings."""
    before = state(new_worker(Settings.model_validate(NEEDED)), "settings")
    unused = {path for path in HOT if state(new_worker(changed(path, FIELDS[path])), "settings") == before}
    assert unused == set(ELSEWHERE) - {"core_api.changes"}  # a worker keeps that section


async def test_other_processes_use_them(call, platform, until):
    """The event log, the admin process and the master of a running edge."""
    changes_off = f'{platform.core_api_url}", changes: false, timeout: "5s'
    drain = {"delay": "61s", "timeout": "99s", "idle": "60s"}
    more = "log: {level: error, format: json}\npages: {directory: null}\n"
    async with edge(workers=1, core_api=changes_off, watchdog="60s", more=more, **drain) as styx:
        [first] = await styx.workers()
        assert styx.log.read_text() == ""
        content = styx.file.read_text()
        for old, new in ELSEWHERE.values():
            assert content.count(old) == 1
            content = content.replace(old, new)
        styx.file.write_text(content)
        assert (await call("reload", "--admin", styx.settings.admin.address)).code == 0
        lines = styx.log.read_text().splitlines()
        assert any("reloaded" in line for line in lines), "log.level"
        assert not any(line.startswith("{") for line in lines), "log.format"
        while "styx_changes_up 1.0" not in (await styx.ask_admin("/metrics"))[1]:  # noqa: ASYNC110 - core_api.changes
            await asyncio.sleep(0.02)
        assert "styx_error_page_templates 0.0" in (await styx.ask_admin("/metrics"))[1], "pages.directory"
        os.kill(first, signal.SIGSTOP)
        await until(lambda: not is_alive(first))  # watchdog
        assert await styx.workers() != [first]
        async with Kept(styx.port) as silent:
            await silent.ask()
            styx.send_signal(signal.SIGTERM)
            assert await silent.ended(), "drain.idle"
            await until(styx.ended.is_set)
        assert re.search("stopping.* delay=0.05 .* timeout=98.0", styx.log.read_text()), (
            "drain.delay, drain.timeout"
        )
