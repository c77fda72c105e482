"""What is skipped where a server is not installed; on CI nothing is."""

import pytest

from bench.lab.redis_server import PROGRAM

needs_redis = pytest.mark.skipif(PROGRAM is None, reason="redis-server is not installed")
