"""What is skipped where a server is not installed; on CI nothing is."""

import pytest

from bench.lab.redis_server import PROGRAM
from edge import BUILD

needs_redis = pytest.mark.skipif(PROGRAM is None, reason="redis-server is not installed")

needs_plain = pytest.mark.skipif(
    BUILD == "compiled", reason="extends or replaces a part of a class, which a compiled class does not allow"
)
"For a test that looks into a class. What it shows holds for the same source, compiled."
