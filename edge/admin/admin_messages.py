"""What the admin server is asked and responds with, in JSON: records without logic."""

from collections.abc import Sequence

import msgspec


class WorkerReply(msgspec.Struct, frozen=True):
    """What one worker said."""

    worker: int
    "Its slot."
    pid: int
    told: msgspec.Raw
    error: str = ""
    leaving: bool = False
    "Another process has its place; it finishes what it has."


class Answers(msgspec.Struct, frozen=True):
    """What the workers said, and which said nothing."""

    workers: list[WorkerReply]
    silent: list[int]
    "Slots of workers that should have answered."


class CommandResult(msgspec.Struct, frozen=True):
    """What came of an operator's wish."""

    done: bool
    words: Sequence[str]


class OperatorDrain(msgspec.Struct, frozen=True):
    """Something that gets no new requests."""

    kind: str
    name: str
    seconds: float
    "For how long; as listed: how much is left."


class Overview(msgspec.Struct, frozen=True):
    """The answer of `/v1/overview`."""

    version: str
    stage: str
    reason: str
    workers: list[WorkerReply]
    silent: list[int]
    socket: str = ""
    "Path of the admin socket; empty = there is none."


class Scope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which routes are meant: see `rules.changes.Change`."""

    kind: str
    name: str = ""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Problem details (RFC 9457): every error of this server."""

    type: str
    title: str
    status: int
    detail: str
    socket: str = ""
    "An extension member: the path of the Unix socket over which the same request may be served."
