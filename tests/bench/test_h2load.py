"""What h2load prints, as the benches read it."""

import pytest

from bench.h2.h2load import parse
from bench.lab.programs import BenchFailed

TEXT = """\
finished in 96.28ms, 415.46 req/s, 46.23KB/s
requests: 300 total, 40 started, 40 done, 38 succeeded, 262 failed, 262 errored, 0 timeout
status codes: {ok} 2xx, 0 3xx, 1 4xx, 0 5xx
"""


def test_what_it_prints():
    result = parse(TEXT.format(ok=38))
    assert (result.started, result.succeeded, result.rate) == (40, 38, 415.46)


def test_another_status_is_no_success():
    assert parse(TEXT.format(ok=30)).succeeded == 30


def test_no_result():
    with pytest.raises(BenchFailed, match="no result"):
        parse("h2load: command not understood")
