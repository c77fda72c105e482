"""Fixtures of the tests of the demo."""

from tests.support.processes.process_fixtures import run, taken_port, until

__all__ = ["run", "taken_port", "until"]
