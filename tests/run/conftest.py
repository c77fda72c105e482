"""Fixtures of the tests of whole processes."""

from tests.support.processes.process_fixtures import (
    call,
    client,
    open_path,
    platform,
    run,
    styx,
    taken_port,
    theirs,
    until,
)

__all__ = ["call", "client", "open_path", "platform", "run", "styx", "taken_port", "theirs", "until"]
