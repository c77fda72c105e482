"""The task and the result of a process that `load_process.run_task` starts: two JSON files."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


def play_task(task_type: type[T], play: Callable[[T], object]) -> None:
    """Of a module that is run as `python -m MODULE TASK RESULT`: read, play, write.

    Raises msgspec.DecodeError and OSError.
    """
    task, result = map(Path, sys.argv[1:3])
    result.write_bytes(msgspec.json.encode(play(msgspec.json.decode(task.read_bytes(), type=task_type))))
