import msgspec
import pytest

from edge.admin.admin_messages import Explanation, OperatorDrain, RouteSourceState, WorkerReply
from edge.admin.explain_text import CORE_API, duration, issuance_line, render, render_drains, render_explanation
from edge.rules.acme.issuance_records import ExplainedIssuance
from edge.rules.explain_records import ExplainedDrain, ExplainedRejection, FailedAttempts, FailedLookup

GOLDEN = """\
live-acme.example.org  ·  acme/live  ·  generation 1842
fresh: confirmed 12 s ago, fresh for another 48 s, usable for 23 h 59 min without the core API
from the core API; to be looked up again in 42 s, if it is in use

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
        "live-acme.example.org\n"
        "unknown host: the core API has no such hostname (asked 3 s ago); requests are answered 404\n"
    )


def test_a_known_host_without_backends(explained):
    text = render(msgspec.structs.replace(explained, backends=[]))
    assert text.splitlines()[-1] == "no backends, says the core API: requests are answered 503, `no_backends`"


@pytest.mark.parametrize(
    ("freshness", "words"),
    [
        ("stale", "stale: confirmed 12 s ago, served while it is looked up again, usable for 23 h"),
        ("expired", "expired: confirmed 12 s ago, looked up again before the next request is served"),
        ("unknown", "unknown: confirmed 12 s ago, too old to be served; the core API is asked first"),
    ],
)
def test_freshness_in_words(explained, freshness, words):
    assert words in render(msgspec.structs.replace(explained, freshness=freshness))


REDIRECTED = "https://www.example.org"


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        ({"maintenance": True, "redirect": REDIRECTED}, "maintenance: requests are answered 503"),
        ({"redirect": REDIRECTED}, f"redirect: requests are sent to {REDIRECTED}"),
        ({"drained": True}, "every backend is drained by an operator: requests are answered 503, `drained`"),
        ({}, "no backends, says the core API: requests are answered 503, `no_backends`"),
    ],
)
def test_what_requests_get_without_a_backend(explained, changes, last):
    text = render(msgspec.structs.replace(explained, backends=[], **changes))
    assert text.splitlines()[3:] == [last]


def test_backends_that_all_drain_are_listed_and_named_as_the_reason(explained, backend):
    text = render(msgspec.structs.replace(explained, backends=[backend(condition="draining", state="draining")]))
    assert text.splitlines()[3] == (
        "every backend is draining, says the core API: requests are answered 503, `no_backends`"
    )
    assert "b7c1" in text


def test_a_drained_backend_says_who_and_for_how_long(explained, backend):
    drain = ExplainedDrain("server", "srv-192", "alice", 540.0)
    nobody = ExplainedDrain("environment", "acme/live", "", 3.0)
    text = render(
        msgspec.structs.replace(explained, backends=[backend(condition="drained", drains=[drain, nobody])])
    )
    assert "  drained  " in text
    assert "    drained by alice for another 9 min; to end it now: styx drain server srv-192 --end\n" in text
    assert "    drained for another 3 s; to end it now: styx drain environment acme/live --end\n" in text


def test_all_backends_in_use_are_full(explained, backend):
    def headed(*backends):
        text = render(msgspec.structs.replace(explained, backends=list(backends)))
        return "every backend in use refused (full) within the last 10 s" in text

    full = backend(failures=[FailedAttempts("refused", 3, 9.0)])
    assert headed(full, full)
    assert headed(full, backend(probability=0.0, condition="probation"))
    assert not headed(full, backend())
    assert not headed(backend(failures=[FailedAttempts("refused", 3, 11.0)]))
    assert not headed(backend(failures=[FailedAttempts("closed_early", 3, 1.0)]))


def test_refusals_and_dead_connects(explained, backend):
    failures = [
        FailedAttempts("refused", 12, 0.4),
        FailedAttempts("connect_timeout", 1, 7.0),
        FailedAttempts("closed_early", 2, 61.0),
    ]
    lines = render(msgspec.structs.replace(explained, backends=[backend(failures=failures)])).splitlines()
    assert lines[-3:] == [
        "    refused (full) 12 times, last 0.4 s ago",
        "    failed to connect in time once, last 7 s ago",
        "    closed early 2 times, last 1 min 1 s ago",
    ]


def without_route(explained, **changes):
    plain = {"known": False, "freshness": "none", "site": "", "backends": []}
    return msgspec.structs.replace(explained, **plain, **changes)


def test_a_failed_lookup_says_when_which_error_and_when_again(explained):
    failed = without_route(explained, failed_lookup=FailedLookup("status 500", 3.0, 1.2), circuit_open=True)
    assert render(failed) == (
        "live-acme.example.org\n"
        "no route: requests are answered 503, `lookup_failed`\n"
        "the lookup failed 3 s ago: status 500; tried again not for another 1.2 s\n"
        "the core API fails: lookups are stopped, but for one now and then (circuit breaker open)\n"
    )
    at_once = without_route(explained, failed_lookup=FailedLookup("x", 3.0, 0.0))
    assert "x; tried again at the next request\n" in render(at_once)
    known = msgspec.structs.replace(explained, failed_lookup=FailedLookup("status 500", 3.0, 1.2))
    assert "the lookup failed 3 s ago: status 500; " in render(known)
    assert "200" not in render(known)


def test_a_lookup_under_way(explained):
    assert render(without_route(explained, looking_up=True)) == (
        "live-acme.example.org\nno route: requests wait for the lookup\nit is being looked up at the core API now\n"
    )


@pytest.mark.parametrize(
    ("reason", "generation", "words"),
    [
        ("lower_generation", 7, "generation 7, lower than 1842; so for 40 s, last 3 s ago; accepted if"),
        ("removal_unconfirmed", None, "that there is no such hostname; so for"),
        ("removal_held_back", 1843, "generation 1843, without backends (as for many environments at once); so"),
    ],
)
def test_a_response_that_was_not_accepted(explained, reason, generation, words):
    rejection = ExplainedRejection(reason, generation, since=40.0, age=3.0, accepted_in=20.0)
    text = render(msgspec.structs.replace(explained, rejection=rejection))
    assert f"a response was not accepted: {words}" in text
    assert "repeated after another 20 s, or now with: styx invalidate hostname live-acme.example.org" in text


def test_faults_in_a_response(explained):
    text = render(msgspec.structs.replace(explained, remarks=["backend 'x' at '1.2.3.4' is not allowed"]))
    assert "wrong in the response of the core API: backend 'x' at '1.2.3.4' is not allowed\n" in text


@pytest.mark.parametrize(
    ("cause", "age", "said"), [("connect_failed", 2.0, 1), ("connect_timeout", 30.0, 0), ("refused", 2.0, 0)]
)
def test_nothing_can_be_connected_to(explained, cause, age, said):
    dead = [
        msgspec.structs.replace(backend, failures=[FailedAttempts(cause, 3, age)]) for backend in explained.backends
    ]
    text = render(msgspec.structs.replace(explained, backends=dead))
    assert text.count("no backend in use could be connected to at its last attempt") == said
    one_is_not = render(msgspec.structs.replace(explained, backends=[*dead[:-2], *explained.backends[1:]]))
    assert "could be connected to" not in one_is_not


def explanation(explained, source=CORE_API, workers=1, silent=()):
    replies = [
        WorkerReply(slot, 100 + slot, msgspec.Raw(msgspec.json.encode(explained))) for slot in range(workers)
    ]
    return Explanation(replies, list(silent), source)


def test_the_replies_of_several_workers(explained):
    one, two = explanation(explained), explanation(explained, workers=2, silent=[3])
    assert render_explanation(one) == GOLDEN
    text = render_explanation(two)
    assert text == f"workers 0, 1, each:\n{GOLDEN}\nno reply from workers 3\n", "what is the same is said once"
    nothing = WorkerReply(7, 107, msgspec.Raw(b"null"))
    text = render_explanation(msgspec.structs.replace(two, workers=[*two.workers, nothing]))
    assert "\nworker 7, process 107:\nit knows nothing about" in text
    assert text.count(GOLDEN) == 1
    failed = WorkerReply(0, 7, msgspec.Raw(b"null"), "ValueError: x")
    similar = Explanation([], [], CORE_API, ["a.test", "b.test"])
    assert render_explanation(similar) == "known hostnames like it: a.test, b.test\n"
    assert render_explanation(Explanation([failed], [], CORE_API)) == "it could not reply: ValueError: x\n"


def test_a_file_that_is_held_back_or_cannot_be_used(explained):
    held = RouteSourceState("file", held_back=3, missing_for=12.0)
    assert (
        "this hostname has been missing from the file of routes, or without backends in it, for 12 s: held back"
        in (render_explanation(explanation(explained, held)))
    )
    others = render_explanation(explanation(explained, RouteSourceState("file", held_back=3)))
    assert others.startswith("the file of routes is held back: 3 hostnames are missing from it\n")
    bad = render_explanation(explanation(explained, RouteSourceState("file", problem="cannot read x: gone")))
    assert bad.startswith(
        "the file of routes cannot be used: cannot read x: gone; the routes of before are served\n"
    )


def test_drains_are_listed_with_who_and_until_when():
    assert render_drains([]) == "nothing is drained\n"
    text = render_drains(
        [
            OperatorDrain("server", "srv-1", 600.0, "alice", 1_795_998_600.0),
            OperatorDrain("backend", "acme/live/b7c1", 5.0, "", 1_795_998_005.0),
        ]
    )
    lines = text.splitlines()
    assert lines[0].split() == ["kind", "name", "by", "until"]
    assert lines[1].split()[:3] == ["backend", "acme/live/b7c1", "unknown"]
    assert lines[1].endswith("(in 5 s)")
    assert lines[2].split()[:3] == ["server", "srv-1", "alice"]
    assert lines[2].endswith("(in 10 min)")


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
    file = RouteSourceState("file")
    of_file = msgspec.structs.replace(explained, source="the file of routes")
    known = render(of_file, file)
    assert known.splitlines()[1].endswith("usable for 23 h 59 min without the file of routes")
    assert known.splitlines()[2] == "from the file of routes; a change of it is taken over by itself"
    unknown = render(msgspec.structs.replace(of_file, known=False, site="", backends=[], age=3.0), file)
    assert "unknown host: the file of routes has no such hostname" in unknown
    empty = render(msgspec.structs.replace(of_file, backends=[]), file)
    waits = render(without_route(explained, looking_up=True), file)
    assert "core API" not in known + unknown + empty + waits


@pytest.mark.parametrize(
    ("issuance", "line"),
    [
        (("issued", "", "", 0, 150.0, 150.0), "certificate ordered by styx: renewed in 50 s"),
        (
            ("issued", "proof_failed", "503", 1, 150.0, 150.0),
            "certificate ordered by styx: renewed in 50 s; last order: the authority did not get the proof (503); "
            "tried again in 50 s",
        ),
        (("ordering", "", "", 0, 0.0, None), "certificate ordered by styx: an order is under way"),
        (("wanted", "", "", 0, 0.0, None), "certificate ordered by styx: at once"),
        (
            ("failed", "rejected", "", 3, 400.0, None),
            "order failed: the authority rejected the order, 3 times in a row; tried again in 5 min",
        ),
        (
            ("waiting", "orders_per_hour", "", 0, 160.0, None),
            "certificate not ordered yet: tls.acme.orders_per_hour is reached; tried again in 1 min",
        ),
        (
            ("unknown_host", "unknown_host", "", 0, None, None),
            "certificate not ordered yet: the source of routes does not know this hostname; not tried again until "
            "it is wanted",
        ),
        (("none", "", "", 0, None, None), "certificate not ordered: no handshake has asked for it within a day"),
    ],
)
def test_the_orders_of_a_certificate(issuance, line):
    assert issuance_line(ExplainedIssuance(*issuance), 100.0) == line
