"""The tables of verdicts and of legal phase transitions."""

import errno

import pytest

from edge.rules.outcomes import VERDICTS, Blame, Cause, Charge, Phase, Retry, connect_cause


def having(**wanted: object) -> set[Cause]:
    """Causes whose verdicts have these values."""
    return {
        cause
        for cause, verdict in VERDICTS.items()
        if all(getattr(verdict, name) == value for name, value in wanted.items())
    }


# Verdicts


def test_every_cause_has_a_verdict() -> None:
    assert VERDICTS.keys() == set(Cause)


def test_letters_of_the_log_are_distinct() -> None:
    assert all(len(letter) == 1 for letter in [*Phase, *Blame])
    assert len(set(Phase)) == 8
    assert len(set(Blame)) == 5


def test_a_reason_and_a_status_go_together() -> None:
    """Only two have a status without being an error."""
    assert having(reason="") == having(status=0) | {Cause.REDIRECTED, Cause.LOCAL_REPLY}


def test_reasons_belong_to_one_status_but_for_bad_requests() -> None:
    statuses: dict[str, set[int]] = {}
    for verdict in VERDICTS.values():
        statuses.setdefault(verdict.reason, set()).add(verdict.status)
    several = {reason for reason, codes in statuses.items() if len(codes) > 1}
    assert several == {"", "bad_request"}


@pytest.mark.parametrize(
    ("status", "reasons"),
    [
        (400, {"bad_request", "empty_host"}),
        (404, {"unknown_host"}),
        (405, {"method_not_allowed"}),
        (408, {"request_timeout"}),
        (413, {"body_too_large"}),
        (414, {"uri_too_long"}),
        (417, {"expectation_failed"}),
        (421, {"host_not_covered"}),
        (431, {"headers_too_large"}),
        (499, {"client_gone"}),
        (501, {"bad_request"}),
        (502, {"connect_failed", "bad_answer", "response_too_large", "closed_early", "misdirected"}),
        (
            503,
            {
                "drained",
                "no_backends",
                "all_refused",
                "lookup_failed",
                "maintenance",
                "edge_overloaded",
                "edge_stopped",
                "site_limit",
            },
        ),
        (504, {"connect_timeout", "first_byte_timeout", "cold_start_timeout", "stalled"}),
        (505, {"bad_request"}),
        (508, {"loop_detected"}),
    ],
)
def test_statuses_and_their_reasons(status: int, reasons: set[str]) -> None:
    assert {verdict.reason for verdict in VERDICTS.values() if verdict.status == status} == reasons


def test_blame_follows_the_status() -> None:
    for cause in having(blame=Blame.CLIENT):
        status = VERDICTS[cause].status
        assert 400 <= status < 500 or status in (501, 505)
    for cause in having(blame=Blame.CORE) | having(blame=Blame.EDGE):
        assert VERDICTS[cause].status in (503, 508)
    for cause in having(blame=Blame.BACKEND):
        assert VERDICTS[cause].status in (0, 502, 503, 504)


@pytest.mark.parametrize(
    ("retry", "causes"),
    [
        pytest.param(Retry.ANY, {Cause.CONNECT_FAILED, Cause.CONNECT_TIMEOUT, Cause.HOST_UNREACHABLE}, id="A"),
        pytest.param(Retry.UNPROCESSED, {Cause.REFUSED, Cause.MISDIRECTED, Cause.EXPECT_REFUSED}, id="B"),
        pytest.param(
            Retry.SAFE_ONLY,
            {
                Cause.STALE_CONNECTION,
                Cause.CONNECTION_UNACKNOWLEDGED,
                Cause.CLOSED_EARLY,
                Cause.BAD_ANSWER,
                Cause.GATEWAY_ERROR,
                Cause.RETRY_REQUESTED,
            },
            id="C",
        ),
    ],
)
def test_rungs_of_the_ladder(retry: Retry, causes: set[Cause]) -> None:
    assert having(retry=retry) == causes


def test_only_failures_of_a_backend_are_retried() -> None:
    for cause in set(Cause) - having(retry=Retry.NEVER):
        assert VERDICTS[cause].blame is Blame.BACKEND


def test_causes_that_are_charged_to_the_backend() -> None:
    assert having(charge=Charge.UNREACHABLE) == {
        Cause.CONNECT_FAILED,
        Cause.CONNECT_TIMEOUT,
        Cause.HOST_UNREACHABLE,
        Cause.CONNECTION_UNACKNOWLEDGED,
    }
    assert having(charge=Charge.REST) == {Cause.REFUSED}
    assert having(charge=Charge.ERROR) == {
        Cause.SERVER_ERROR,
        Cause.CLOSED_EARLY,
        Cause.BAD_ANSWER,
        Cause.RESPONSE_TOO_LARGE,
        Cause.GATEWAY_ERROR,
        Cause.FIRST_BYTE_TIMEOUT,
        Cause.STALLED,
        Cause.TRUNCATED,
    }


@pytest.mark.parametrize("blame", [Blame.CLIENT, Blame.CORE, Blame.EDGE])
def test_failures_of_others_are_not_charged_to_the_backend(blame: Blame) -> None:
    assert all(VERDICTS[cause].charge is Charge.NOTHING for cause in having(blame=blame))


# connect()


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ECONNREFUSED, Cause.CONNECT_FAILED),
        (errno.EHOSTUNREACH, Cause.HOST_UNREACHABLE),
        (errno.ENETUNREACH, Cause.HOST_UNREACHABLE),
        (errno.ECONNRESET, Cause.CONNECT_FAILED),
        (errno.ETIMEDOUT, Cause.CONNECT_TIMEOUT),
        (errno.EMFILE, Cause.EDGE_OVERLOADED),
        (errno.ENFILE, Cause.EDGE_OVERLOADED),
        (errno.ENOBUFS, Cause.EDGE_OVERLOADED),
        (errno.ENOMEM, Cause.EDGE_OVERLOADED),
        (errno.EADDRNOTAVAIL, Cause.EDGE_OVERLOADED),
        (errno.EAGAIN, Cause.EDGE_OVERLOADED),
        (None, Cause.CONNECT_FAILED),
    ],
    ids=lambda value: errno.errorcode.get(value, "?") if isinstance(value, int) else str(value),
)
def test_what_an_errno_of_connect_means(number: int | None, cause: Cause) -> None:
    assert connect_cause(number) is cause
