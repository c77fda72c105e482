"""What is skipped where a server is not installed; on CI nothing is."""

import pytest

from bench.lab.redis_server import PROGRAM

needs_redis = pytest.mark.skipif(PROGRAM is None, reason="redis-server is not installed")

needs_plain = pytest.mark.plain
"""For a test that extends a class or replaces a part of it, which a compiled class does not allow. What it shows
holds for the same source, compiled. `tests/conftest.py` leaves it out then."""
