"""Request ids: none is made twice, and they go on behind a batch."""

import re

from edge.net.request.request_ids import BATCH, RequestIds


def test_no_id_is_made_twice() -> None:
    ids, others = RequestIds(), RequestIds()
    made = [ids.next() for _ in range(3 * BATCH)]
    assert len({*made, others.next()}) == len(made) + 1


def test_an_id_is_a_prefix_and_a_number_that_goes_on() -> None:
    ids = RequestIds()
    made = [ids.next() for _ in range(2 * BATCH + 1)]
    parts = [re.fullmatch(rb"([0-9a-f]{12})-([0-9a-f]{3,})", one) for one in made]
    assert len({part[1] for part in parts if part}) == 1
    assert [int(part[2], 16) for part in parts if part] == list(range(BATCH, 3 * BATCH + 1))
