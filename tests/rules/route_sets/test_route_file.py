"""The file of routes: the destinations of its hostnames, and the position of every fault."""

import msgspec
import pytest

from edge.rules.route_sets import route_file
from edge.rules.route_sets.route_file import LIMITS, READ_AT_ONCE, destinations_in
from edge.rules.route_sets.route_set_records import Destination, Endpoint
from edge.rules.settings.file import MAX_BYTES, MAX_VALUES, SettingsError

GOOD = """\
routes:
  - hostnames: [Shop.test, www.shop.test]
    backends:
      - {address: "10.0.0.1:8000"}
      - {address: "[fd00::7]:8001", id: spare, server: srv-2, role: standby, state: asleep}
  - hostnames: [old.test]
    site: archive
    environment: test
    redirect: https://shop.test
  - hostnames: [closed.test]
    maintenance: true
"""
COME_TO = [
    (
        ("shop.test", "www.shop.test"),
        Destination(
            "shop.test",
            "live",
            (
                Endpoint("10.0.0.1:8000", "10.0.0.1", 8000, "", "active", "running"),
                Endpoint("spare", "fd00::7", 8001, "srv-2", "standby", "asleep"),
            ),
            False,
            None,
        ),
    ),
    (("old.test",), Destination("archive", "test", (), False, "https://shop.test")),
    (("closed.test",), Destination("closed.test", "live", (), True, None)),
]


def test_a_backend_on_a_unix_socket() -> None:
    text = 'routes: [{hostnames: [a.test], backends: [{address: "unix:/run/a.sock"}, {address: "unix:/b", id: b}]}]'
    [(_, to)] = destinations_in(text, name="routes.yaml")
    assert to.backends == (
        Endpoint("unix:/run/a.sock", "unix:/run/a.sock", 0, "", "active", "running"),
        Endpoint("b", "unix:/b", 0, "", "active", "running"),
    )


def test_patterns() -> None:
    text = 'routes: [{hostnames: ["*.Shop.test", "*"], maintenance: true}]'
    assert destinations_in(text, name="routes.yaml") == [
        (("*.shop.test", "*"), Destination("*.shop.test", "live", (), True, None))
    ]


@pytest.mark.parametrize("pattern", ["*shop.test", "a.*.test", "shop.*", "*.", "**", "*.*.test", "*.-a.test"])
def test_invalid_patterns(pattern: str) -> None:
    [fault] = faults_of(f'routes: [{{hostnames: ["{pattern}"], maintenance: true}}]')
    assert "routes.0.hostnames.0: cannot be a hostname" in fault


@pytest.fixture
def read_whole(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts that were parsed as a whole."""
    whole: list[str] = []
    before = route_file.parse_as

    def noted(kind, text, **others):
        whole.extend([text] * (kind is route_file.RouteFile))
        return before(kind, text, **others)

    monkeypatch.setattr(route_file, "parse_as", noted)
    return whole


def faults_of(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        destinations_in(text, name="routes.yaml")
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "# a comment\n---\n" + GOOD + "...\n",
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n  ", "\n").replace("routes:", "'routes':  # all"),
    ],
    ids=["plain", "document", "crlf", "not indented"],
)
def test_destinations_of_a_file(text: str, read_whole: list[str]) -> None:
    assert destinations_in(text, name="routes.yaml") == COME_TO
    assert not read_whole, "it has no anchors, and one entry below the other"


@pytest.mark.parametrize(
    "text",
    [
        "routes: [{hostnames: [a.test]}, {hostnames: [b.test]}]\n",
        "{routes: [{hostnames: [a.test]}, {hostnames: [b.test]}]}\n",
        "routes:\n  - &one\n    hostnames: [a.test]\n  - hostnames: [b.test]\n",
        "routes:\n  -\n    hostnames: [a.test]\n  - hostnames: [b.test]\n",
        "routes:\n  - hostnames: [a.test]\n    backends: &none []\n  - {hostnames: [b.test], backends: *none}\n",
        "routes:\n  - ? hostnames\n    : [a.test]\n  - ? hostnames\n    : [b.test]\n",
    ],
    ids=["flow", "all flow", "anchor", "dash alone", "alias", "question mark"],
)
def test_other_notations_have_the_same_destinations(text: str) -> None:
    assert [(hostnames, to.backends) for hostnames, to in destinations_in(text, name="f")] == [
        (("a.test",), ()),
        (("b.test",), ()),
    ]


@pytest.mark.parametrize("text", ["", " \n\n", "# nothing\n", "{}\n", "routes: []\n"])
def test_a_file_without_routes_has_no_hostname_and_does_not_pass_a_check(text: str) -> None:
    assert destinations_in(text, name="routes.yaml") == []
    with pytest.raises(SettingsError) as caught:
        destinations_in(text, name="routes.yaml", may_be_empty=False)
    position = "1:9" if "routes" in text else "1:1"
    words = f"routes.yaml:{position}: routes: no hostname: every request would be answered 404"
    assert str(caught.value) == words
    assert destinations_in(GOOD, name="routes.yaml", may_be_empty=False) == COME_TO


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("routes: [\n", ["routes.yaml:2:1: not valid YAML"]),
        ("routes: [{}]", ["routes.yaml:1:10: routes.0.hostnames: required, but not given"]),
        ("routes: [{hostnames: []}]", ["routes.yaml:1:22: routes.0.hostnames: must not be empty"]),
        (
            "routes:\n  - hostnames: [a.test]\n    backend: []\n",
            ["routes.yaml:3:5: routes.0.backend: unknown setting; did you mean backends?"],
        ),
        ("routes:\n  - hostnames: [a..test]\n", ["routes.yaml:2:17: routes.0.hostnames.0: cannot be a hostname"]),
        (
            'routes:\n  - hostnames: [a.test]\n    backends: [{address: ":80"}, {address: "b:0"}]\n',
            ["routes.yaml:3:26: routes.0.backends.0.address: must name", "routes.yaml:3:44: routes.0.backends.1"],
        ),
        (
            'routes:\n  - hostnames: [a.test]\n    backends: [{address: "b:80"}, {address: "b:80"}]\n',
            ["routes.yaml:3:35: routes.0.backends.1: is already there: b:80"],
        ),
        (
            "routes:\n  - hostnames: [a.test]\n  - hostnames: [b.test, A.test]\n",
            ["routes.yaml:3:25: routes.1.hostnames.1: A.test is already in routes.0"],
        ),
        ("routes: [{hostnames: [a.test, a.test]}]", ["routes.yaml:1:31: routes.0.hostnames.1: a.test is already"]),
        (
            'routes: [{hostnames: [a.test], backends: [{address: "b:80", role: boss}]}]',
            ["routes.yaml:1:67: routes.0.backends.0.role: must be one of 'active' or 'standby', not"],
        ),
        (
            "routes:\n  - hostnames: [a.test]\nothers: 1\n",
            ["routes.yaml:3:1: others: unknown setting"],
        ),
        (
            "routes:\n  - hostnames: [a.test]\nroutes:\n  - hostnames: [b.test]\n",
            ["routes.yaml:3:1: routes: given twice; the first is in line 1"],
        ),
        (
            "routes:\n  - hostnames: [a.test]\n    hostnames: [b.test]\n",
            ["routes.yaml:3:5: routes.0.hostnames: given twice; the first is in line 2"],
        ),
        ("routes:\n", ["routes.yaml:1:8: routes: must be a list, not null"]),
        (
            "routes:\n  - {hostnames: [a.test, b.test], redirect: /x}\n",
            ["routes.yaml:2:45: routes.0.redirect: must be an absolute URL or a hostname, not '/x'"],
        ),
        (
            "routes:\n  - {hostnames: [a.test, b.test], redirect: https://B.test/}\n",
            ["routes.yaml:2:45: routes.0.redirect: leads to the same hostname"],
        ),
        (
            'routes:\n  - {hostnames: [a.test], backends: [{address: "0.0.0.0:80"}]}\n',
            ["routes.yaml:2:48: routes.0.backends.0.address: is no address of a host"],
        ),
        (
            f"routes:\n  - {{hostnames: [a.test], site: {'x' * 256}}}\n",
            ["routes.yaml:2:33: routes.0.site: String should have at most 255 characters"],
        ),
    ],
)
def test_every_fault_has_its_position(text: str, faults: list[str]) -> None:
    found = faults_of(text)
    assert len(found) == len(faults)
    for one, expected in zip(found, faults, strict=True):
        assert one.startswith(expected)


MANY = [f"  - hostnames: [host-{n}.test]\n" for n in range(3 * READ_AT_ONCE)]


def test_faults_far_down_in_a_large_file_have_their_positions_too(read_whole: list[str]) -> None:
    lines = list(MANY)
    lines[7] = "  - hostnames: [a..test]\n"
    lines[READ_AT_ONCE + 5] = "  - hostnames: [b.test]\n    hostnames: [c.test]\n"
    lines[2 * READ_AT_ONCE + 9] = '  - {hostnames: [d.test], backends: [{address: ":1"}]}\n'
    assert [text.partition(";")[0][:70] for text in faults_of("# first\nroutes:\n" + "".join(lines))] == [
        "routes.yaml:10:17: routes.7.hostnames.0: cannot be a hostname: labels ",
        "routes.yaml:109:5: routes.105.hostnames: given twice",
        "routes.yaml:213:48: routes.209.backends.0.address: must name a host an",
    ]
    assert not read_whole


def test_a_duplicate_of_a_hostname_far_above_is_found(read_whole: list[str]) -> None:
    lines = list(MANY)
    lines[2 * READ_AT_ONCE + 9] = "  - hostnames: [d.test, HOST-3.test]\n"
    lines[2 * READ_AT_ONCE + 10] = "  - hostnames: [d.test]\n"
    assert faults_of("routes:\n" + "".join(lines)) == [
        "routes.yaml:211:25: routes.209.hostnames.1: HOST-3.test is already in routes.3",
        "routes.yaml:212:17: routes.210.hostnames.0: d.test is already in routes.209",
    ]
    assert not read_whole


def test_its_limits_are_higher_than_those_of_a_configuration() -> None:
    hostnames = [f"a-hostname-that-is-long-enough-{n}.example.org" for n in range(MAX_VALUES + 10_000)]
    text = f"routes:\n  - hostnames: [{', '.join(hostnames)}]\n"
    assert len(text) > MAX_BYTES
    [(found, _)] = destinations_in(text, name="f")
    assert list(found) == hostnames
    assert LIMITS.bytes > 100_000 * 400, "a hostname and two backends of a name with an address of IPv6"
    assert LIMITS.values > 100_000 * 12


def test_its_size_is_limited() -> None:
    assert faults_of("routes: []\n#" + "x" * LIMITS.bytes) == ["routes.yaml:1:1: the file is larger than 64 MiB"]
    backends = "".join(f'      - address: "10.0.0.1:{n + 1}"\n' for n in range(1001))
    found = faults_of(f"routes:\n  - hostnames: [a.test]\n    backends:\n{backends}")
    assert len(found) == 1
    assert found[0].startswith("routes.yaml:4:7: routes.0.backends: ")


@pytest.mark.parametrize(("written", "tls"), [("tls: true", True), ("tls: false", False), ("id: b", False)])
def test_a_backend_over_tls(written: str, tls: bool) -> None:
    text = f"routes:\n  - hostnames: [shop.test]\n    backends: [{{address: '10.0.0.1:443', {written}}}]\n"
    [(_, to)] = destinations_in(text, name="routes.yaml")
    assert [backend.tls for backend in to.backends] == [tls]


def test_a_backend_of_an_earlier_version_has_no_tls() -> None:
    old = msgspec.msgpack.encode(["b", "10.0.0.1", 80, "", "active", "running"])
    assert msgspec.msgpack.decode(old, type=Endpoint) == Endpoint("b", "10.0.0.1", 80, "", "active", "running")
