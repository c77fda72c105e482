import msgspec
import pytest

from edge.admin.explain_text import duration, render

GOLDEN = """\
live-acme.example.org  ·  acme/live  ·  generation 1842
fresh: confirmed 12 s ago, fresh for another 48 s, usable for 23 h 59 min without the core API
told by the core API; to be asked for again in 42 s, if it is in use

backend  server   address          role     state    weight  chance  in flight  typical  errors
b7c1     srv-192  10.4.7.12:26607  active   running   1.000  90.9 %          2    12 ms   0.0 %
c0d9     srv-217  10.4.9.1:26611   active   running   0.061   9.1 %          0   140 ms  12.5 %
    2.30 demerits: slower than its neighbours, earned 4.2 s ago
    0.50 demerits: on probation
    rests: not asked for another 8.4 s
e1       srv-9    10.4.7.12:26607  standby  asleep    1.000   0.0 %          0        -   0.0 %
"""


def test_a_route_with_its_backends(explained):
    assert render(explained) == GOLDEN
    assert max(map(len, GOLDEN.splitlines())) <= 100


def test_an_unknown_host(explained):
    text = render(msgspec.structs.replace(explained, known=False, site="", backends=[], age=3.0))
    assert text == (
        "live-acme.example.org\nunknown host: the core API said so 3 s ago; requests are answered 404\n"
    )


def test_a_known_host_without_backends(explained):
    text = render(msgspec.structs.replace(explained, backends=[]))
    assert text.splitlines()[-1] == "no backends: requests are answered 503"


@pytest.mark.parametrize(
    ("freshness", "words"),
    [
        ("stale", "stale: confirmed 12 s ago, served while it is asked for again, usable for 23 h"),
        ("expired", "expired: confirmed 12 s ago, asked for again before the next request is served"),
        ("unknown", "unknown: confirmed 12 s ago, too old to be served; the core API is asked first"),
    ],
)
def test_freshness_in_words(explained, freshness, words):
    assert words in render(msgspec.structs.replace(explained, freshness=freshness))


def test_last_error_maintenance_and_redirect(explained):
    text = render(
        msgspec.structs.replace(
            explained, last_error="timeout", maintenance=True, redirect="https://www.example.org"
        )
    )
    assert text.splitlines()[3:6] == [
        "last error of the core API: timeout",
        "maintenance: requests are answered 503",
        "redirect: requests are sent to https://www.example.org",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (0.04, "0 s"),
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (12.4, "12 s"),
        (59.7, "1 min"),
        (185, "3 min 5 s"),
        (3_600, "1 h"),
        (3_605, "1 h"),
        (7_800, "2 h 10 min"),
        (4 * 86_400 + 7_200, "4 d 2 h"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(("next_probe", "words"), [(1.1, "next one in 1.1 s"), (None, "from the next request on")])
def test_the_next_connect_check_of_a_backend_that_is_down(explained, backend, next_probe, words):
    down = backend(condition="down", condition_for=7.2, next_probe=next_probe)
    text = render(msgspec.structs.replace(explained, backends=[down]))
    assert text.splitlines()[-1] == f"    down for 7.2 s: connected to in the background, {words}"


def test_routes_from_a_file_name_the_file_as_their_source(explained):
    of_file = msgspec.structs.replace(explained, source="the file of routes", last_error="timeout")
    known = render(of_file)
    assert known.splitlines()[1].endswith("usable for 23 h 59 min without the file of routes")
    assert known.splitlines()[2].startswith("told by the file of routes; ")
    unknown = render(msgspec.structs.replace(of_file, known=False, site="", backends=[], age=3.0))
    assert "unknown host: the file of routes said so 3 s ago" in unknown
    assert "core API" not in known + unknown
