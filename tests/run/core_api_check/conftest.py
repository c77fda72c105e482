"""Fixtures of the tests of the command."""

from tests.support.processes.process_fixtures import platform, run

__all__ = ["platform", "run"]
