"""Limits on the size of heads: exact, and applied as early as possible."""

from time import thread_time
from timeit import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.rules.http.framing import RejectedRequest
from edge.rules.http.head_size import check_head_size, check_partial_head, has_bare_lf
from edge.rules.outcomes import Cause
from edge.rules.settings import LimitSettings

DEFAULTS = LimitSettings()
LIMITS = LimitSettings(request_line=64, field=100, head=300, fields=5, body=1000)


def head(*, line: int = 20, fields: tuple[int, ...] = ()) -> bytes:
    """A complete head with lines of these lengths, each without its CRLF."""
    return b"".join(b"x" * size + b"\r\n" for size in (line, *fields)) + b"\r\n"


def whole_verdict(data: bytes, limits: LimitSettings) -> Cause | None:
    try:
        check_head_size(data, limits)
    except RejectedRequest as refusal:
        return refusal.cause
    return None


def early_verdict(data: bytes, limits: LimitSettings) -> Cause | None:
    """The verdict on a head that arrives byte by byte, before its last byte."""
    try:
        for at in range(1, len(data)):
            check_partial_head(data[:at], limits, at - 1)
    except RejectedRequest as refusal:
        return refusal.cause
    return None


def test_fields_are_counted_before_they_are_measured() -> None:
    """Splitting a head of many lines would take half a millisecond."""
    check_head_size(head(fields=(1,) * DEFAULTS.fields), DEFAULTS)
    with pytest.raises(RejectedRequest) as refusal:
        check_head_size(head(fields=(1,) * (DEFAULTS.fields + 1)), DEFAULTS)
    assert refusal.value.cause is Cause.HEADERS_TOO_LARGE


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        pytest.param(head(line=64), None, id="request line at its limit"),
        pytest.param(head(line=65), Cause.URI_TOO_LONG, id="request line over it"),
        pytest.param(head(line=65, fields=(101,)), Cause.URI_TOO_LONG, id="the line is named first"),
        pytest.param(head(fields=(100,)), None, id="field at its limit"),
        pytest.param(head(fields=(101,)), Cause.HEADERS_TOO_LARGE, id="field over it"),
        pytest.param(head(fields=(10, 100, 10)), None, id="field in the middle"),
        pytest.param(head(line=60, fields=(100, 100, 28)), None, id="head at its limit of 300"),
        pytest.param(head(line=60, fields=(100, 100, 31)), Cause.HEADERS_TOO_LARGE, id="head over it"),
    ],
)
def test_limits_are_exact_with_any_split_of_the_head(data: bytes, cause: Cause | None) -> None:
    assert whole_verdict(data, LIMITS) is cause
    assert early_verdict(data, LIMITS) in (None, cause)


def test_a_too_long_line_is_rejected_before_its_end() -> None:
    assert early_verdict(b"x" * 66, LIMITS) is Cause.URI_TOO_LONG
    assert early_verdict(head(fields=(150,))[:-4], LIMITS) is Cause.HEADERS_TOO_LARGE
    assert early_verdict(head(fields=(99, 99, 99))[:-4], LIMITS) is Cause.HEADERS_TOO_LARGE


def test_a_cookie_of_32_kib_passes_by_default() -> None:
    line = b"GET / HTTP/1.1\r\n"
    check_head_size(line + b"cookie: " + b"x" * 32 * 1024 + b"\r\n\r\n", DEFAULTS)
    check_head_size(line + b"X-Other: " + b"x" * (16 * 1024 - 9) + b"\r\n\r\n", DEFAULTS)
    for field in (b"Cookie: " + b"x" * (32 * 1024 + 1), b"X-Other: " + b"x" * (16 * 1024 - 8)):
        with pytest.raises(RejectedRequest) as refusal:
            check_head_size(line + field + b"\r\n\r\n", DEFAULTS)
        assert refusal.value.cause is Cause.HEADERS_TOO_LARGE


def test_default_limits_are_8_kib_for_the_line_and_64_kib_in_all() -> None:
    check_head_size(head(line=8192), DEFAULTS)
    with pytest.raises(RejectedRequest) as too_long:
        check_head_size(head(line=8193), DEFAULTS)
    assert too_long.value.cause is Cause.URI_TOO_LONG
    whole = head(line=1000, fields=(16_000, 16_000, 16_000))
    check_head_size(whole + b"x" * 16_000 + b"\r\n" + b"x" * (65536 - len(whole) - 16_002), DEFAULTS)
    with pytest.raises(RejectedRequest) as too_large:
        check_head_size(whole + b"x" * 16_000 + b"\r\n" + b"x" * (65537 - len(whole) - 16_002), DEFAULTS)
    assert too_large.value.cause is Cause.HEADERS_TOO_LARGE


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\n", b"\n", b"GET / HTTP/1.1\r\nHost: a\nB: c", b"a\r\n\n"])
def test_a_bare_line_feed_is_rejected_before_the_head_is_complete(data: bytes) -> None:
    with pytest.raises(RejectedRequest) as refusal:
        check_partial_head(data, DEFAULTS)
    assert refusal.value.cause is Cause.BAD_REQUEST
    assert early_verdict(data + b"x", DEFAULTS) is Cause.BAD_REQUEST


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b"a", b"bc"]), max_size=12), st.integers(0, 20))
def test_bare_line_feeds_are_found_with_any_split_of_the_head(parts: list[bytes], cut: int) -> None:
    data = b"".join(parts)
    seen = min(cut, len(data))
    assert (has_bare_lf(data[:seen]) or has_bare_lf(data, seen)) == (b"\n" in data.replace(b"\r\n", b""))


def test_checking_one_more_byte_of_a_long_head_costs_little() -> None:
    """When a client sends byte by byte, only the new bytes are checked."""
    line = b"GET / HTTP/1.1\r\n" + (b"X-A: " + b"x" * 10_000 + b"\r\n") * 6
    costs = [
        timeit(
            lambda data=line[:size]: check_partial_head(data, DEFAULTS, len(data) - 1),
            number=200,
            timer=thread_time,
        )
        for size in (2_000, 60_000)
    ]
    assert costs[1] < costs[0] * 10 + 0.002


@pytest.mark.parametrize("data", [b"", b"GET / HT", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_a_valid_partial_head(data: bytes) -> None:
    check_partial_head(data, DEFAULTS)
