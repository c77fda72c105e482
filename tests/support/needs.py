"""What is skipped where a server is not installed; on CI nothing is."""

import pytest

from bench.lab.redis_server import PROGRAM
from edge.platform.containers.container import ContainerFailed
from edge.platform.containers.nginx_container import Binaries


def _missing_for_nginx() -> str:
    try:
        Binaries.find()
    except ContainerFailed as failure:
        return str(failure)
    return ""


MISSING_FOR_NGINX = _missing_for_nginx()
"What is missing for containers of nginx and php-fpm; empty = nothing is."

needs_redis = pytest.mark.skipif(PROGRAM is None, reason="redis-server is not installed")

needs_nginx = pytest.mark.skipif(bool(MISSING_FOR_NGINX), reason=MISSING_FOR_NGINX or "nothing is missing")

CONTAINER_MAKES = ["builtin", pytest.param("nginx", marks=needs_nginx)]
"For a test with each make of containers that is installed."

needs_plain = pytest.mark.plain
"""For a test that extends a class or replaces a part of it, which a compiled class does not allow. What it shows
holds for the same source, compiled. `tests/conftest.py` leaves it out then."""
