"""Bodies are streamed, not stored, however much slower the receiver is than the sender."""

import pytest

from bench.slow import memory

pytestmark = pytest.mark.long


async def test_slow_receivers_do_not_fill_the_memory_of_styx():
    report = await memory.run(memory.MemoryPlan(seconds=6))
    assert [course.direction for course in report.courses] == ["download", "upload"]
    for course in report.courses:
        assert course.growth < 8 * memory.MIB, report.text()
