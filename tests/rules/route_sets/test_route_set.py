"""Sets of routes: their encoding on the wire and on disk, and how two differ."""

import pytest

from edge.rules.route_sets.route_set import (
    HEADER,
    HOSTNAMES_AT_ONCE,
    NO_ROUTES,
    PART_BYTES,
    Destinations,
    RouteSetSummary,
    digest_of,
    entries_in,
    file_of,
    response_for,
    route_set,
    set_in,
    summary_of,
)
from edge.rules.route_sets.route_set_records import Destination, Endpoint, RouteSet
from edge.rules.routing.route_response import Backend, RouteResponse


def to(site: str, port: int = 80, **changes: object) -> Destination:
    backends = (Endpoint("b", "10.0.0.1", port, "srv", "standby", "asleep"),)
    members = {"site": site, "environment": "live", "backends": backends, "maintenance": False, "redirect": None}
    return Destination(**{**members, **changes})  # type: ignore[arg-type]


def a_set(
    named: Destinations, before: RouteSetSummary = NO_ROUTES, version: int = 7
) -> tuple[RouteSet, RouteSetSummary]:
    return route_set(named, before, version=version, source="/f", digest=digest_of(b"text"))


def responses_of(routes: RouteSet) -> dict[str, RouteResponse]:
    return {
        hostname: response_for(hostname, entry.data)
        for part in routes.parts
        for entry in entries_in(part)
        for hostname in entry.hostnames
    }


def test_each_hostname_gets_the_response_of_its_entry() -> None:
    routes, _ = a_set([(("a.test", "b.test"), to("acme")), (("c.test",), to("other", redirect="d.test"))])
    backends = (Backend("b", "10.0.0.1", 80, "srv", "standby", "asleep"),)
    assert responses_of(routes) == {
        "a.test": RouteResponse("a.test", "acme", "live", 7, backends),
        "b.test": RouteResponse("b.test", "acme", "live", 7, backends),
        "c.test": RouteResponse("c.test", "other", "live", 7, backends, redirect="d.test"),
    }


def test_a_generation_is_that_of_the_last_change_of_the_environment() -> None:
    named = [(("a.test",), to("acme")), (("b.test",), to("other")), (("c.test",), to("acme", port=81))]
    _, first = a_set(named, version=7)
    named[2] = (("c.test",), to("acme", port=82))
    second, summary = a_set(named, first, version=8)
    generations = {hostname: response.generation for hostname, response in responses_of(second).items()}
    assert generations == {"a.test": 8, "b.test": 7, "c.test": 8}
    again, _ = a_set(named, summary, version=9)
    assert again.parts == second.parts


def test_a_hostname_that_moves_between_entries_of_an_environment_gets_no_lower_generation() -> None:
    _, first = a_set([(("a.test", "b.test"), to("acme")), (("c.test",), to("acme", port=81))], version=7)
    second, _ = a_set([(("a.test",), to("acme")), (("c.test", "b.test"), to("acme", port=81))], first, version=8)
    assert responses_of(second)["b.test"].generation == 8


def test_how_two_differ() -> None:
    _, one = a_set(
        [(("a.test", "b.test"), to("acme")), (("c.test",), to("other")), (("i.test",), to("i", backends=()))]
    )
    _, two = a_set(
        [(("a.test", "new.test"), to("acme")), (("c.test",), to("other", backends=())), (("i.test",), to("i"))]
    )
    assert one.lost_in(two) == {"b.test", "c.test"}
    assert one.added_in(two) == 1
    assert one.changed_in(two) == 2
    assert (one.lost_in(one), one.added_in(one), one.changed_in(one)) == (set(), 0, 0)


@pytest.mark.parametrize("members", [{"maintenance": True}, {"redirect": "b.test"}])
def test_redirects_and_maintenance_count_as_served(members: dict[str, object]) -> None:
    _, summary = a_set([(("a.test",), to("acme", backends=(), **members))])
    assert not summary.idle


def test_parts_are_small_and_an_entry_of_many_hostnames_is_split() -> None:
    many = tuple(f"host-{n}.test" for n in range(3 * HOSTNAMES_AT_ONCE + 10))
    large = tuple(Endpoint(f"backend-{n}", "10.0.0.1", n + 1, "", "active", "running") for n in range(1000))
    named = [(many, to("acme")), *((((f"l-{n}.test"),), to(f"l-{n}", backends=large)) for n in range(20))]
    routes, summary = a_set(named)
    assert len(responses_of(routes)) == len(many) + 20
    one = len(large) * 60
    assert max(map(len, routes.parts)) < PART_BYTES + one
    assert max(sum(len(e.hostnames) for e in entries_in(part)) for part in routes.parts) <= 2 * HOSTNAMES_AT_ONCE
    assert summary_of(routes) == summary


def test_a_saved_set_is_read_back() -> None:
    routes, summary = a_set([(("a.test", "b.test"), to("acme")), (("c.test",), to("other", backends=()))])
    again = set_in(b"".join(file_of(routes)))
    assert again == routes
    assert summary_of(again) == summary
    assert set_in(b"".join(file_of(a_set([])[0]))).parts == ()


@pytest.mark.parametrize("cut", [0, 5, len(HEADER), len(HEADER) + 3, len(HEADER) + 20, -1])
def test_a_file_that_is_cut_off_is_rejected(cut: int) -> None:
    data = b"".join(file_of(a_set([(("a.test",), to("acme"))])[0]))
    with pytest.raises(ValueError, match=r"it is|it has"):
        set_in(data[:cut])


def test_a_file_without_its_last_part_or_of_another_version_is_rejected() -> None:
    named: Destinations = [((f"{n}.test",), to(f"{n}", backends=())) for n in range(2 * HOSTNAMES_AT_ONCE)]
    routes, _ = a_set(named)
    pieces = list(file_of(routes))
    with pytest.raises(ValueError, match=f"it has {len(routes.parts) - 1} parts of {len(routes.parts)}"):
        set_in(b"".join(pieces[:-2]))
    with pytest.raises(ValueError, match="of this version"):
        set_in(b"".join(pieces).replace(b"set 1", b"set 9", 1))


def test_each_damaged_byte_is_detected() -> None:
    data = bytearray(b"".join(file_of(a_set([(("a.test",), to("acme"))])[0])))
    for at in range(len(HEADER), len(data)):
        data[at] ^= 1
        with pytest.raises(ValueError):  # noqa: PT011  in other words each time
            set_in(bytes(data))
        data[at] ^= 1


def test_bytes_that_are_no_part_are_rejected() -> None:
    with pytest.raises(ValueError, match="no set of routes"):
        entries_in(b"\xc1")
