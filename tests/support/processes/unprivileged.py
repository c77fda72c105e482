"""Another local user: what somebody without rights can do on the machine of an edge.

What that user's processes import is imported here: they may be unable to read the files of this project or of
Python.
"""

import asyncio
import encodings.idna  # noqa: F401
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from edge.admin import explain_text  # noqa: F401
from edge.net import secret_files  # noqa: F401
from edge.run import admin_client, cli  # noqa: F401

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody who is not")


async def as_nobody(do: Callable[[], Any]) -> Any:
    """What this returns when a process of a user without rights does it. It can be written as JSON."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writing, json.dumps(do()).encode())
        finally:
            os._exit(0)
    os.close(writing)

    def result() -> Any:
        with os.fdopen(reading) as said:
            said_at_last = said.read()
        os.waitpid(pid, 0)
        return json.loads(said_at_last or '"it failed"')

    return await asyncio.to_thread(result)


async def command_as_nobody(*args: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `styx` when that user calls it."""

    def called() -> tuple[int, str, str]:
        ran = CliRunner().invoke(cli.main, list(map(str, args)))
        return ran.exit_code, ran.stdout, ran.stderr

    code, out, err = await as_nobody(called)
    return code, out, err
