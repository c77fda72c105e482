"""What a new configuration changes."""

import pytest

from edge.rules.reloading import COLD, HOT, changes
from edge.rules.settings import Settings
from edge.rules.settings_file import parse

NEEDED = 'listeners: [{address: "127.0.0.1:8080"}]\ncore_api: {url: "http://127.0.0.1:9900"}\n'


def settings(text: str) -> Settings:
    return parse(text, name="f", environ={})


@pytest.mark.parametrize(
    ("text", "told", "hot"),
    [
        ("timeouts: {head: 3s}", "timeouts.head: 10s -> 3s", True),
        ("limits: {body: 1MiB}", "limits.body: 0 -> 1MiB", True),
        ("retries: {attempts: 2}", "retries.attempts: 5 -> 2", True),
        ("log: {level: debug}", "log.level: 'info' -> 'debug'", True),
        ("core_api: {url: 'http://b'}", "core_api.url: 'http://127.0.0.1:9900' -> 'http://b'", True),
        ("watchdog: 1s", "watchdog: 10s -> 1s", True),
        ("workers: 3", "workers: auto -> 3", False),
        ("routes: {capacity: 5}", "routes.capacity: 100000 -> 5", False),
        ("routes: {max_age: 5s}", "routes.max_age: 1m -> 5s", True),
        ("forwarding: {trusted: [10.0.0.0/8]}", "forwarding.trusted: [] -> [10.0.0.0/8]", False),
        ("admin: {token_file: /t}", "admin.token_file: null -> '/t'", False),
        (
            'listeners: [{address: ":1"}, {address: ":2", backlog: 9}]',
            "listeners: [{address: 127.0.0.1:8080}] -> [{address: :1}, {address: :2, backlog: 9}]",
            False,
        ),
    ],
)
def test_one_setting(text, told, hot):
    name = text.partition(":")[0]
    kept = "\n".join(line for line in NEEDED.splitlines() if not line.startswith(f"{name}:"))
    [change] = changes(settings(NEEDED), settings(f"{kept}\n{text}\n"))
    assert (str(change), change.hot) == (told, hot)


def test_nothing_and_several():
    assert changes(settings(NEEDED), settings(NEEDED + "workers: auto\n")) == []
    told = changes(settings(NEEDED), settings(NEEDED + "drain: {delay: 0s, timeout: 1s}\nworkers: 2\n"))
    assert [change.path for change in told] == ["workers", "drain.delay", "drain.timeout"]


def test_every_name_is_a_setting():
    assert set(Settings.model_fields) >= HOT
    for path in COLD:
        section, _, name = path.partition(".")
        assert section in HOT
        assert name in getattr(settings(NEEDED), section).model_dump()
