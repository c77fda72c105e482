"""The differences between two configurations."""

import pytest

from edge.rules.settings import ListenerSettings, Section, Settings
from edge.rules.settings.diff import bound_to_admin_process, changes
from edge.rules.settings.file import parse
from edge.rules.settings.section import OnReload, fields_of, reload_of

NEEDED = 'listeners: [{address: "127.0.0.1:8080"}]\ncore_api: {url: "http://127.0.0.1:9900"}\n'


def settings(text: str) -> Settings:
    return parse(text, name="f", environ={})


@pytest.mark.parametrize(
    ("text", "written", "hot"),
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
def test_one_setting(text, written, hot):
    name = text.partition(":")[0]
    others = "\n".join(line for line in NEEDED.splitlines() if not line.startswith(f"{name}:"))
    [change] = changes(settings(NEEDED), settings(f"{others}\n{text}\n"))
    assert (str(change), change.hot) == (written, hot)


def test_no_change_and_several():
    assert changes(settings(NEEDED), settings(NEEDED + "workers: auto\n")) == []
    found = changes(settings(NEEDED), settings(NEEDED + "drain: {delay: 0s, timeout: 1s}\nworkers: 2\n"))
    assert [change.path for change in found] == ["workers", "drain.delay", "drain.timeout"]


def test_every_setting_is_marked_hot_or_cold():
    unmarked = [
        path for path, field in fields_of(Settings) if not any(isinstance(m, OnReload) for m in field.metadata)
    ]
    assert not unmarked


def test_a_setting_without_a_mark_is_a_mistake():
    with pytest.raises(ValueError, match="marked Hot or Cold"):
        reload_of(ListenerSettings.model_fields["backlog"])


OF_WORKERS = frozenset({"workers", "routes.ready", "routes.unknown_host_capacity"})
"Cold settings that the admin process does not use."
SECTIONS_OF_WORKERS = frozenset(
    {"core_api", "tls", "backends", "demerits", "forwarding", "access_log", "metrics", "traces"}
)
"Sections whose cold settings it does not use, or applies at once, as the files of certificates."


def with_another(section: Section, path: str) -> Section:
    """This section, in which the setting has a value that no configuration could give it."""
    name, _, rest = path.partition(".")
    another = with_another(getattr(section, name), rest) if rest else ()
    return section.model_copy(update={name: another})


def test_a_cold_setting_replaces_the_admin_process_unless_only_workers_use_it():
    before = settings(NEEDED)
    cold = [path for path, field in fields_of(Settings) if reload_of(field) is OnReload.REPLACE]
    kept = {p for p in cold if bound_to_admin_process(with_another(before, p)) == bound_to_admin_process(before)}
    assert {path for path in kept if path.partition(".")[0] not in SECTIONS_OF_WORKERS} == OF_WORKERS
