"""JSON bodies of the admin API's requests and responses: records without logic."""

from collections.abc import Sequence

import msgspec

from edge.rules.acme.issuance_records import ExplainedIssuance


class WorkerReply(msgspec.Struct, frozen=True):
    """The reply of one worker."""

    worker: int
    "Its slot."
    pid: int
    content: msgspec.Raw
    "The content of the reply, JSON."
    error: str = ""
    leaving: bool = False
    "Another process has taken over its slot; this one finishes its requests."


class WorkerReplies(msgspec.Struct, frozen=True):
    """The replies of all workers, and the workers that did not reply."""

    workers: list[WorkerReply]
    silent: list[int]
    "Slots of workers that did not reply in time."


class CommandResult(msgspec.Struct, frozen=True):
    """The result of an operator's command."""

    done: bool
    words: Sequence[str]
    "Lines for the operator."


class DrainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/drains`: the named target shall get no new requests."""

    kind: str
    name: str
    seconds: float
    "Its length; 0 = end it."
    force: bool = False
    "Whether to begin it although no route names the target (yet)."


class OperatorDrain(msgspec.Struct, frozen=True):
    """A drain by an operator: the named target gets no new requests."""

    kind: str
    name: str
    seconds: float
    "The time left."
    by: str = ""
    "Who began it."
    until: float = 0.0
    "When it ends by itself, seconds since the epoch."


class RouteSourceState(msgspec.Struct, frozen=True):
    """The source of routes, in the response of `/v1/routes/{host}/explain`."""

    kind: str
    "`core API`, or the name of a pushed source: `file`"
    problem: str = ""
    "Why the file cannot be used at present; empty = it can be, or there is none."
    held_back: int = 0
    "Hostnames that are missing from the file, and are served all the same for some time."
    missing_for: float | None = None
    "Seconds for which this hostname has been one of them; null = it is not."


class Explanation(msgspec.Struct, frozen=True):
    """The response of `/v1/routes/{host}/explain`."""

    workers: list[WorkerReply]
    "Each with an `explain_records.ExplainedRoute`, or null."
    silent: list[int]
    source: RouteSourceState
    similar: list[str] = []
    "Known hostnames that are like it, if there is no such hostname."
    issuance: ExplainedIssuance | None = None
    "The orders of its certificate; null = styx orders none (`tls.acme`)."


class RunningVersion(msgspec.Struct, frozen=True):
    """The response of `/v1/version`."""

    version: str
    build: str
    "`compiled`, or `plain` Python."
    python: str


class Overview(msgspec.Struct, frozen=True):
    """The response of `/v1/overview`."""

    version: str
    build: str
    "As in `RunningVersion`."
    stage: str
    reason: str
    workers: list[WorkerReply]
    silent: list[int]
    socket: str = ""
    "Path of the admin socket; empty = there is none."


class ConfigSetting(msgspec.Struct, frozen=True):
    """One effective setting."""

    path: str
    value: str
    "As it is written in a file; `(hidden)` for a secret."
    source: str
    "`default`, `file`, or `environment`: filled in from variables that the file names."
    place: str
    "Where it is given, as `file:line:column`; empty for a default."
    variables: list[str]
    "The environment variables that the file names for it."
    hot: bool
    "Whether a reload applies a new value without new workers."


class Configuration(msgspec.Struct, frozen=True):
    """The response of `/v1/config`: the settings in force."""

    file: str
    changed_since: bool | None
    "Whether the file has other content now, which a reload would put in force; null = it cannot be read."
    settings: list[ConfigSetting]


class ProcessLogLevel(msgspec.Struct, frozen=True):
    """From which level on a process writes to the event log."""

    level: str
    configured: str
    "`log.level` of the settings."
    seconds: float
    "Seconds until the configured level holds again; 0 = it does."


class LogLevels(msgspec.Struct, frozen=True):
    """The response of `/v1/log-level`."""

    admin: ProcessLogLevel
    "Of the admin process."
    workers: list[WorkerReply]
    "Each with a `ProcessLogLevel`."
    silent: list[int]


class LogLevelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/log-level`: write from this level on, in all processes."""

    level: str
    seconds: float
    "For how long; 0 = the configured level again, whatever `level` is."


class Scope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The routes that an invalidation applies to, as in `rules.routing.change_records.Change`."""

    kind: str
    name: str = ""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Problem details (RFC 9457), the body of every error response."""

    type: str
    title: str
    status: int
    detail: str
    socket: str = ""
    "An extension member: the path of the Unix socket on which the same request may be allowed."
