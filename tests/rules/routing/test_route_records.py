"""Records of routes: they are decoded as they were encoded, and damage is detected."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.rules.routing.route_records import (
    LARGE_EACH,
    LONGEST,
    Damaged,
    Record,
    newest,
    record_of,
    records,
    route_in,
    still_useful,
)
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.saved_route import SavedRoute

BACKENDS = Backend("b1", "10.0.0.1", 8000), Backend("b2", "::1", 80)
RESPONSE = RouteResponse("shop.test", "acme", "live", 7, BACKENDS)


def a_record(hostname: str = "shop.test", confirmed: float = 100.0, **changes: object) -> Record:
    members = {"fresh": 160.0, "expired": 700.0, "gone": 9000.0, "etag": '"7"', "response": RESPONSE, **changes}
    return record_of(hostname, confirmed, SavedRoute(**members))  # type: ignore[arg-type]


def test_records_are_decoded_as_they_were_encoded() -> None:
    written = [a_record(), a_record("b.test", 1.5, response=None, etag=None)]
    assert list(records(b"".join(record.data for record in written))) == written
    assert route_in(written[0].data) == SavedRoute(160.0, 700.0, 9000.0, '"7"', RESPONSE)
    assert route_in(written[1].data).response is None


@given(cut=st.integers(1, len(a_record().data) - 1))
def test_a_cut_off_record_is_detected(cut: int) -> None:
    whole, torn = a_record(), a_record("later.test")
    found = []
    with pytest.raises(Damaged) as raised:
        found.extend(records(whole.data + torn.data[:cut]))
    assert raised.value.good == len(whole.data)


@given(at=st.integers(0, len(a_record().data) - 1), flip=st.integers(1, 255))
def test_a_changed_byte_is_detected(at: int, flip: int) -> None:
    data = bytearray(a_record().data)
    data[at] ^= flip
    with pytest.raises(Damaged):
        list(records(bytes(data)))


@given(st.binary(max_size=200))
def test_garbage_raises_nothing_else(data: bytes) -> None:
    try:
        for record in records(data):
            route_in(record.data)
    except ValueError:
        pass


def test_a_length_out_of_bounds_is_rejected() -> None:
    with pytest.raises(Damaged, match="at byte 0"):
        list(records((LONGEST + 1).to_bytes(4, "big") + bytes(100)))


def test_the_newest_of_each_hostname_is_kept() -> None:
    found: dict[str, Record] = {}
    newest(
        iter([a_record(confirmed=5.0), a_record("b.test"), a_record(confirmed=9.0), a_record(confirmed=7.0)]), found
    )
    assert [(record.hostname, record.confirmed) for record in found.values()] == [
        ("b.test", 100.0),
        ("shop.test", 9.0),
    ]


def test_removed_expired_and_surplus_routes_are_not_written_again() -> None:
    written = [
        a_record("a.test"),
        a_record("gone.test", gone=199.0),
        a_record("forgotten.test", response=None),
        a_record("b.test"),
        a_record("c.test"),
    ]
    useful = still_useful({record.hostname: record for record in written}, now=200.0, capacity=2)
    assert [record.hostname for record in useful] == ["b.test", "c.test"]


def test_large_routes_are_written_again_only_while_they_are_few() -> None:
    backends = tuple(Backend(f"backend-{n}", f"10.0.0.{n % 250}", 8000 + n) for n in range(1000))
    written = [
        a_record(f"large-{n}.test", response=msgspec.structs.replace(RESPONSE, backends=backends))
        for n in range(20)
    ]
    written.append(a_record("small.test"))
    capacity = 3 * len(written[0].data) // LARGE_EACH + 1
    useful = still_useful({record.hostname: record for record in written}, now=150.0, capacity=capacity)
    assert [record.hostname for record in useful] == [*(f"large-{n}.test" for n in range(3)), "small.test"]
