"""Parsing of configuration files, and faults with exact positions: file:line:column: path: message."""

from collections.abc import Mapping

import pytest

from edge.rules.settings import Address, Settings
from edge.rules.settings.file import MAX_BYTES, Fault, Position, SettingsError, former_names, parse
from edge.rules.settings.renamed import RENAMED
from edge.rules.settings.section import section_of

SMALLEST = """\
listeners: [{address: "127.0.0.1:8080"}]
core_api: {url: "http://127.0.0.1:9900"}
admin: {address: "127.0.0.1:9901"}
workers: 1
"""
# Two lines, so that what a test adds begins in line 3.
NEEDED = """\
listeners: [{address: "127.0.0.1:8080"}]
core_api: {url: "http://127.0.0.1:9900"}
"""
ENVIRON = {"HOST": "123", "LEVEL": "debug", "ONE": "1", "EMPTY": "", "TEN": "10s", "NO": "no"}


def faults(text: str, **how: Mapping[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(text, name="f", environ=ENVIRON, **how)
    lines = [str(fault) for fault in caught.value.faults]
    assert str(caught.value) == "\n".join(lines)
    return lines


def test_the_smallest_configuration() -> None:
    settings = parse(SMALLEST, name="f", environ={})
    assert settings.listeners[0].address == Address("127.0.0.1", 8080)
    assert settings.core_api.url == "http://127.0.0.1:9900"


def test_a_section_with_every_line_commented_out_is_empty() -> None:
    assert parse(NEEDED + "pool:\n  # idle_total: 1\n", name="f", environ={}).pool.idle_total == 4096


def test_lists_aliases_and_null() -> None:
    text = NEEDED + (
        "forwarding:\n  trusted: [10.0.0.0/8, 'fd00::/8']\n"
        "timeouts: {head: &long 30s, body: *long}\n"
        "admin: {token_file: ~}\nretries: {failed_ratio: 0.25, attempts: +3}\n"
    )
    settings = parse(text, name="f", environ={})
    assert [str(network) for network in settings.forwarding.trusted] == ["10.0.0.0/8", "fd00::/8"]
    assert (settings.timeouts.head, settings.timeouts.body) == (30, 30)
    assert settings.admin.token_file is None
    assert (settings.retries.failed_ratio, settings.retries.attempts) == (0.25, 3)


def test_the_environment() -> None:
    text = (
        NEEDED
        + """\
workers: ${ONE}
edge_name: ${HOST}-${NO}
log: {level: "${LEVEL}", format: "${EMPTY:-console}"}
timeouts: {head: "${TEN}", body: "${UNSET:-1m}"}
access_log: {path: "/log/$${x}-$HOME-${EMPTY}-${UNSET:-}"}
forwarding:
  via_name: ${NO}
"""
    )
    settings = parse(text, name="f", environ=ENVIRON)
    assert settings.workers == 1
    assert settings.edge_name == "123-no"
    assert (settings.log.level, settings.log.format) == ("debug", "console")
    assert (settings.timeouts.head, settings.timeouts.body) == (10, 60)
    assert settings.access_log.path == "/log/${x}-$HOME--"
    assert settings.forwarding.via_name == "no"


def test_the_environment_is_not_read_in_names_and_not_as_yaml() -> None:
    assert faults(NEEDED + "${HOST}: 1")[0] == "f:3:1: ${HOST}: unknown setting"
    environ = {"EVIL": "x\nworkers: 5", "REF": "${EVIL}"}
    settings = parse(NEEDED + "access_log:\n  path: ${EVIL}${REF}", name="f", environ=environ)
    assert settings.access_log.path == "x\nworkers: 5${EVIL}"


YAML_FAULTS = {
    "": ["f:1:1: listeners: required, but not given", "f:1:1: core_api: required, but not given"],
    "[]": ["f:1:1: the file must be a mapping of sections, such as `listeners: …`"],
    "just words": ["f:1:1: the file must be a mapping of sections, such as `listeners: …`"],
    NEEDED + "---\nworkers: 1": ["f:3:1: a second document: the file must hold only one"],
    NEEDED + "log:\n\tlevel: info": ["f:4:1: not valid YAML: a tab cannot indent; use spaces"],
    NEEDED + "edge_name: a\0": ["f:3:13: not valid YAML: the character U+0000 is not allowed"],
    "a: *b": ["f:1:4: not valid YAML: found undefined alias"],
    "x" * (MAX_BYTES + 1): ["f:1:1: the file is larger than 1 MiB"],
    "[" * 500: ["f:1:33: nested more than 32 deep"],
    NEEDED + "log: &a {level: *a}": ["f:3:6: log.level: an alias to something that contains it"],
    NEEDED + "log: {level: info}\nlog: {}": ["f:4:1: log: given twice; the first is in line 3"],
    NEEDED + "log:\n  level: info\n  level: debug": ["f:5:3: log.level: given twice; the first is in line 4"],
    NEEDED + "? [a]\n: 1": ["f:3:3: a name must be plain text"],
    NEEDED + "<<: {workers: 1}": ["f:3:1: <<: merge keys are not supported"],
    NEEDED + "log: {level: !x info}": ["f:3:14: log.level: the tag !x is not supported"],
    NEEDED + "log: !!set {level}": ["f:3:6: log: the tag tag:yaml.org,2002:set is not supported"],
}


@pytest.mark.parametrize(("text", "lines"), YAML_FAULTS.items(), ids=range(len(YAML_FAULTS)))
def test_faults_of_the_text(text: str, lines: list[str]) -> None:
    assert faults(text) == lines


def test_a_syntax_error_has_a_place() -> None:
    (line,) = faults("listeners: 'x")
    assert line.startswith("f:1:")
    assert ": not valid YAML: " in line


def test_alias_bombs_are_refused() -> None:
    wide = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    wide += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    assert faults(wide) == ["f:1:1: more than 20000 values, with every alias written out"]
    (line,) = faults("[" * 100_000)  # newer versions of libyaml stop at 1,000 by themselves
    assert line.endswith("nested more than 32 deep")
    deep = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 1000))
    (line,) = faults(deep)
    assert line.endswith("nested more than 32 deep, through aliases")


SETTING_FAULTS = {
    "workers: 129": ["f:3:10: workers: must be at most 128, not 129"],
    "workers: 0": ["f:3:10: workers: must be auto or at least 1, not 0"],
    "workers: car": ["f:3:10: workers: must be auto or a whole number, not 'car'"],
    "workers: yes": ["f:3:10: workers: must be a whole number, not true"],
    "edge_name: no": ["f:3:12: edge_name: must be text, but YAML reads it as false: put it in quotes"],
    "edge_name: 2020-01-01": ["f:3:12: edge_name: YAML takes 2020-01-01 for a date: put it in quotes"],
    "wrokers: 1": ["f:3:1: wrokers: unknown setting; did you mean workers?"],
    "routes: {file: x}": ["f:3:10: routes.file: unknown setting"],
    "upstream: x": ["f:3:1: upstream: unknown setting"],
    "log_level: debug": ["f:3:1: log_level: unknown setting; did you mean log.level?"],
    "idle_total: 1": ["f:3:1: idle_total: unknown setting; did you mean pool.idle_total?"],
    "pool: {xyzzy: 1}": ["f:3:8: pool.xyzzy: unknown setting"],
    "pool: {frist_byte: 1s}": ["f:3:8: pool.frist_byte: unknown setting; did you mean timeouts.first_byte?"],
    "xyzzy: 010": [
        "f:3:1: xyzzy: unknown setting",
        "f:3:8: xyzzy: YAML takes 010 for a number: write plain decimals, or quote text",
    ],
    "pool: 5": ["f:3:7: pool: must be a mapping (name: value), not 5"],
    "pool: []": ["f:3:7: pool: must be a mapping (name: value), not a list"],
    "pool: {idle_timeout: 2m}": [
        "f:3:22: pool.idle_timeout: must be less than 75s: nginx closes its end at keepalive_timeout 75s"
    ],
    "timeouts: {head: 10}": ["f:3:18: timeouts.head: has no unit: write 10ms, 10s, 10m, 10h or 10d"],
    "timeouts: {head: 0}": ["f:3:18: timeouts.head: must be at least 1ms, not 0s"],
    "timeouts: {head: 60d}": ["f:3:18: timeouts.head: must be at most 1h, not 60d"],
    "timeouts: {connect: 9s}": [
        "f:3:21: timeouts.connect: must not be longer than connect_total, which holds all tries"
    ],
    "timeouts: {connect_total: 200ms, connect: 201ms}": [
        "f:3:43: timeouts.connect: must not be longer than connect_total, which holds all tries"
    ],
    "timeouts: {deadline: 5s}\nretries: {boot: 6s}": [
        "f:4:17: retries.boot: must not be longer than timeouts.deadline, which holds all attempts"
    ],
    "limits: {head: 99GiB}": ["f:3:16: limits.head: must be at most 16MiB, not 99GiB"],
    "limits: {fields: 1:30}": [
        "f:3:18: limits.fields: YAML takes 1:30 for a number: write plain decimals, or quote text"
    ],
    "retries: {failed_cap: .inf}": [
        "f:3:23: retries.failed_cap: YAML takes .inf for a number: write plain decimals, or quote text"
    ],
    "admin: {address: ':9901'}": [
        "f:3:18: admin.address: is open to other machines: set admin.token_file, or use 127.0.0.1"
    ],
    "admin: {address: '127.0.0.1:8080'}": [
        "f:3:18: admin.address: 127.0.0.1:8080 is already the address of listeners.0"
    ],
    "forwarding: {trusted: 10.0.0.0/8, via_name: ''}": [
        "f:3:23: forwarding.trusted: must be a list, not '10.0.0.0/8'",
        "f:3:45: forwarding.via_name: must not be empty",
    ],
    "forwarding:\n  trusted:\n  - 10.0.0.0/8\n  - 10.0.0.1/8": [
        "f:6:5: forwarding.trusted.1: has bits beyond its length: did you mean 10.0.0.0/8?"
    ],
    "log: {level: loud}": ["f:3:14: log.level: must be one of 'debug', 'info', 'warning' or 'error', not 'loud'"],
    "edge_name: ${UNSET}": [
        "f:3:12: edge_name: the environment variable UNSET is not set; ${UNSET:-default} would give a default"
    ],
    "edge_name: ${not closed": [
        "f:3:12: edge_name: ${ must go on with NAME} or NAME:-default}; a plain ${ is written $${"
    ],
    "workers: ${NO}": ["f:3:10: workers: must be a whole number, not 'no'"],
}


@pytest.mark.parametrize(("text", "lines"), SETTING_FAULTS.items(), ids=range(len(SETTING_FAULTS)))
def test_faults_of_settings(text: str, lines: list[str]) -> None:
    assert faults(NEEDED + text) == lines


def test_every_fault_at_once_in_the_order_of_the_file() -> None:
    text = """\
workers: 0
listeners:
  - address: :8080
  - address: :8080
    backlog: many
  - adress: :8081
  - :8082
core_api:
  # url is missing
  timeout: 5
pool: {idle_timeout: 80s}
pool: {}
"""
    assert faults(text) == [
        "f:1:10: workers: must be auto or at least 1, not 0",
        "f:5:14: listeners.1.backlog: must be a whole number, not 'many'",
        "f:6:5: listeners.2.address: required, but not given",
        "f:6:5: listeners.2.adress: unknown setting; did you mean address?",
        "f:7:5: listeners.3: must be a mapping (name: value), not ':8082'",
        "f:10:3: core_api.url: required, but not given",
        "f:10:12: core_api.timeout: has no unit: write 5ms, 5s, 5m, 5h or 5d",
        "f:11:22: pool.idle_timeout: must be less than 75s: nginx closes its end at keepalive_timeout 75s",
        "f:12:1: pool: given twice; the first is in line 11",
    ]


def test_listeners_must_be_there_and_differ() -> None:
    core = 'core_api: {url: "http://127.0.0.1:9900"}\n'
    assert faults(core + "listeners: []") == ["f:2:12: listeners: must not be empty"]
    [fault] = faults(core + 'listeners: [{address: "nowhere"}]')
    assert fault.startswith("f:2:23: listeners.0.address: ")
    assert faults(core + "listeners:") == ["f:2:11: listeners: must be a list, not null"]
    assert faults(core + "listeners: [{address: ':1'}, {address: ':1'}]") == [
        "f:2:40: listeners.1.address: :1 is already the address of listeners.0"
    ]


def test_a_fault_without_a_setting_has_no_path() -> None:
    assert str(Fault("styx.yaml", Position(2, 3), "", "bad")) == "styx.yaml:2:3: bad"
    assert str(Fault("styx.yaml", Position(2, 3), "pool", "bad")) == "styx.yaml:2:3: pool: bad"


def test_trusted_networks_of_listeners() -> None:
    text = """\
listeners:
  - {address: ":80"}
  - address: ":81"
    proxy_protocol: true
core_api: {url: "http://127.0.0.1:9900"}
"""
    assert faults(text) == [
        "f:4:21: listeners.1.proxy_protocol: nobody may connect: name the proxies' networks in trusted"
    ]
    settings = parse(text.replace("true", "true\n    trusted: [fd00::/8]"), name="f", environ={})
    assert [str(network) for network in settings.listeners[1].trusted or ()] == ["fd00::/8"]
    assert settings.listeners[0].trusted is None
    for flag in ("true", "false"):
        asked = text.replace("true", "${ASKED}\n    trusted: [fd00::/8]")
        assert parse(asked, name="f", environ={"ASKED": flag}).listeners[1].proxy_protocol == (flag == "true")
    assert faults(text.replace("true", "${TEN}"))[0].endswith("must be true or false, not '10s'")
    assert faults(text.replace("true", "7\n    trusted: fd00::/8")) == [
        "f:4:21: listeners.1.proxy_protocol: must be true or false, not 7",
        "f:5:14: listeners.1.trusted: must be a list, not 'fd00::/8'",
    ]


FORMER = {
    "edge": "edge_name",
    "shared": "redis",
    "timeouts.wait": "retries.queue_timeout",
    "limits.conns": "limits.connections",
    "listeners.queue": "listeners.backlog",
    "listeners.host": "listeners.address",
}
OLD = """\
listeners:
  - address: ":80"
    queue: 5
  - host: ":81"
core_api: {url: "http://127.0.0.1:9900"}
edge: here
timeouts: {wait: 1s}
shared: {prefix: mine}
limits: {conns: 7}
"""


def test_former_names_still_work() -> None:
    settings = parse(OLD, name="f", environ={}, renamed=FORMER)
    assert [listener.backlog for listener in settings.listeners] == [5, 4096]
    assert settings.listeners[1].address.port == 81
    assert (settings.edge_name, settings.redis.prefix) == ("here", "mine")
    assert (settings.retries.queue_timeout, settings.limits.connections) == (1.0, 7)


def test_new_names_of_former_names() -> None:
    assert [str(fault) for fault in former_names(OLD, name="f", renamed=FORMER)] == [
        "f:3:5: listeners.0.queue is called listeners.0.backlog now",
        "f:4:5: listeners.1.host is called listeners.1.address now",
        "f:6:1: edge is called edge_name now",
        "f:7:12: timeouts.wait is called retries.queue_timeout now",
        "f:8:1: shared is called redis now",
        "f:9:10: limits.conns is called limits.connections now",
    ]
    assert former_names(OLD, name="f", renamed={}) == ()


def test_a_fault_of_a_renamed_setting_has_the_position_of_its_former_name() -> None:
    text = OLD.replace("conns: 7", "conns: -7").replace("prefix: mine", "prefix: mine, uri: x")
    assert faults(text, renamed=FORMER) == [
        "f:8:24: redis.uri: unknown setting; did you mean url?",
        "f:9:17: limits.connections: must be at least 1, not -7",
    ]


def test_both_names_at_once() -> None:
    assert faults(OLD.replace("conns: 7", "conns: 7, connections: 8"), renamed=FORMER) == [
        "f:9:10: limits.conns is called limits.connections now, which is given as well",
    ]


def test_new_names_exist_and_former_ones_do_not() -> None:
    """All rows of the table, for sections and settings."""
    names = set(Settings.model_fields)
    for outer, field in Settings.model_fields.items():
        names.update(f"{outer}.{name}" for name in getattr(section_of(field.annotation), "model_fields", ()))
    assert names.issuperset(RENAMED.values())
    assert names.isdisjoint(RENAMED)
