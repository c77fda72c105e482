"""The messages between the processes of one edge, and their encoding.

    master ◄── channel ──► worker, admin process       one socket pair each, made before the fork
    admin process ◄── control channel ──► worker       a Unix socket of which the master holds the listening end

A message is a msgpack array, preceded by its length in four bytes. Both ends have the same version of styx, because
each master starts its own processes; the control channel checks it all the same (`Hello.version`), because a
process of an earlier version may be left over.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec

from edge.rules.balancing.health_records import HealthEvent
from edge.rules.environment_status_records import RecentEvent
from edge.rules.pages.page_records import PageRecord
from edge.rules.routing.change_records import Change
from edge.rules.tls.challenge_responses import Challenge

MOST: Final = 8 << 20
"Maximum bytes of one message. An explanation of an environment with 30 containers has about 10 KiB."
MOST_FROM_CHILD: Final = 64 << 10
"Maximum bytes of one message to the master."
MOST_RECORDS: Final = 2000
MOST_RECORD_BYTES: Final = 1 << 20
"Maximum records of routes in one message, and bytes of them: a record with three backends has 400."
MOST_HELLO: Final = 4 << 10
"Maximum bytes of the first message on a connection of the control channel: a `Hello` has less than a hundred."
_LENGTH = struct.Struct("!I")


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Base class of all messages."""


class NumberedMessage(Message, frozen=True):
    """A command or a request, or the reply to one, which has the same number."""

    number: int


class ResultMessage(NumberedMessage, frozen=True):
    """The result of a command."""

    done: bool
    words: list[str]
    "What has changed, or why it was not done; line by line."


class RouteSetMessage(Message, frozen=True):
    """Base class of messages about one version of the pushed set of routes, see `net/routing/pushed_routes.py`."""

    version: int


# master to child


class ApplySettings(Message, frozen=True):
    """A new configuration. The child applies its hot settings and replies with `SettingsApplied`."""

    text: str
    name: str
    number: int


class StartAccepting(Message, frozen=True):
    """Accept from now on. The worker replies with `AcceptingStarted`."""


class AcceptFor(Message, frozen=True):
    """Accept for this slot as well, whose worker does not accept. Its socket of this listener (a number) comes
    along."""

    slot: int
    listener: int


class StopAcceptingFor(Message, frozen=True):
    """Stop accepting for this slot: its worker accepts again."""

    slot: int


class Drain(Message, frozen=True):
    """Stop accepting, finish within `timeout` seconds, and end. See `DrainSettings`."""

    timeout: float
    idle: float


class Reopen(Message, frozen=True):
    """Open the log files again: they were rotated."""


class StageIs(Message, frozen=True):
    """The stage that the edge is in, for `/readyz`, and its workers."""

    stage: str
    reason: str
    workers: list[tuple[int, int]]
    "Slot and process id of each."


class MasterEvents(Message, frozen=True):
    """Lines of the master's event log, for the admin process."""

    events: list[RecentEvent]


class TakeRoutes(NumberedMessage, frozen=True):
    """Publish the present routes of the pushed source. The admin process replies with `RoutesTaken`."""


class CommandFinished(ResultMessage, frozen=True):
    """The result of a `Command`."""


# child to master


class Ready(Message, frozen=True):
    """The child is ready: a worker waits for `StartAccepting`; the admin process works already."""


class AcceptingStarted(Message, frozen=True):
    """The worker accepts connections."""


class Draining(Message, frozen=True):
    """The worker has stopped accepting, and will end."""


class Failed(Message, frozen=True):
    """The child cannot work, and ends."""

    why: str


class SettingsApplied(NumberedMessage, frozen=True):
    """The new settings are applied; `why` is set when they could not be."""

    why: str


class RoutesTaken(ResultMessage, frozen=True):
    """The result of `TakeRoutes`. Not `done` = the source cannot be used, and `words` say why."""


class Command(NumberedMessage, frozen=True):
    """A command of the operator. The master replies with `CommandFinished`."""

    what: Literal["reload", "upgrade"]


# control channel, either way


class RoutesLearned(Message, frozen=True):
    """Records of routes (`rules/routing/route_records.py`) that one worker has received from the core API."""

    records: list[bytes]


class HealthEventsSeen(Message, frozen=True):
    """The health events that one worker has detected."""

    evidence: list[HealthEvent]


# control channel, worker to admin process


class Hello(Message, frozen=True):
    """The first message: identifies the worker. Only processes of the same master know the `secret`."""

    version: str
    secret: bytes
    slot: int
    pid: int
    role: Literal["worker", "issuer"] = "worker"


class Drained(Message, frozen=True):
    """The drains that this worker has, sent after each `Hello`: an earlier admin process may have ordered them."""

    drains: list[tuple[str, str, float, str]]
    "Kind, name, seconds left, and who began it."


class ControlReply(NumberedMessage, frozen=True):
    """The reply to a request, as JSON; "" = no result. `why` is set when the request failed."""

    body: bytes
    why: str = ""


# control channel, admin process to worker


class AskSnapshot(NumberedMessage, frozen=True):
    """Requests the worker's `Published` numbers."""


class AskExplain(NumberedMessage, frozen=True):
    """Requests all that the worker knows about a hostname."""

    host: str


class AskRoutes(NumberedMessage, frozen=True):
    """Requests a page of the list of routes: from the index `start`, `most` routes, of this site and this
    freshness; "" = any."""

    start: int
    most: int
    site: str
    freshness: str


class Invalidate(NumberedMessage, frozen=True):
    """Invalidate routes: of a hostname, a site, an environment (`site/environment`), a server, or all."""

    kind: str
    name: str


class DrainOf(NumberedMessage, frozen=True):
    """Send no new requests to a backend, a server or an environment for so many seconds; 0 = end the drain."""

    kind: str
    name: str
    seconds: float
    by: str = ""
    "Who began it."


class AskName(NumberedMessage, frozen=True):
    """Asks whether the worker knows a hostname, a backend, a server or an environment of this name."""

    kind: str
    name: str


class AskStatus(NumberedMessage, frozen=True):
    """Requests the environments to show on the status page, and the last events."""


class AskClients(NumberedMessage, frozen=True):
    """Requests the clients that take up most."""


class AskLogLevel(NumberedMessage, frozen=True):
    """Asks from which level on the process writes to the event log."""


class SetLogLevel(NumberedMessage, frozen=True):
    """Write to the event log from this level on, for so many seconds; 0 = from the configured one on. To workers,
    which reply as to `AskLogLevel`, and to the master."""

    level: str
    seconds: float


class AskTop(NumberedMessage, frozen=True):
    """Requests the environments with most requests, failures and time (`rules/traffic/top_sites.py`)."""


class Changed(Message, frozen=True):
    """Changes of routes: reported by the platform or another edge, or, from a worker, discovered by it. A receiver
    that may have missed some gets the change `EVERYTHING`."""

    changes: list[Change]


class ServeChallenges(NumberedMessage, frozen=True):
    """Serve these proofs to the ACME authority (`rules/tls/challenge_responses.py`). From the issuer to the admin
    process, besides those that are served; from there to all workers, and no others. Who has done it replies."""

    challenges: list[Challenge]
    ended: list[str] = []
    "From the issuer: hostnames whose proof is no longer needed."


class AskHostname(NumberedMessage, frozen=True):
    """Asks whether the source of routes knows this hostname: `known`, `unknown`, or `unsure` when it could not be
    asked. From the issuer to the admin process, and from there to one worker."""

    host: str


class CertificatesWanted(Message, frozen=True):
    """Hostnames that the source of routes knows, and for which a handshake found no certificate. From a worker to
    the admin process, and from there to the issuer."""

    hostnames: list[str]


class RenewTokens(NumberedMessage, frozen=True):
    """Read the token of the core API again: its file has changed."""


class PagesAre(Message, frozen=True):
    """All templates of error pages; sent after each `Hello`, and when one changes."""

    pages: list[PageRecord]


# control channel: all routes of a pushed source, see `net/routing/pushed_routes.py`


class RoutesAre(RouteSetMessage, frozen=True):
    """Admin process to worker: this set is current. The worker fetches its parts."""

    parts: int


class RoutesWanted(RouteSetMessage, frozen=True):
    """Worker to admin process: requests one part."""

    part: int


class RoutesPart(RouteSetMessage, frozen=True):
    """Admin process to worker: one part of the set (`rules/route_sets/route_set.py`)."""

    part: int
    data: bytes


class RoutesFetched(RouteSetMessage, frozen=True):
    """Worker to admin process: it has all parts, or uses this set already."""


class HoldRoutes(RouteSetMessage, frozen=True):
    """Admin process to worker: all workers have all parts; hold back responses of lookups until the switch."""


class RoutesHeld(RouteSetMessage, frozen=True):
    """Worker to admin process: it holds."""


class SwitchRoutes(RouteSetMessage, frozen=True):
    """Admin process to worker: all workers hold; use the new set."""


ToChild = (
    StartAccepting
    | AcceptFor
    | StopAcceptingFor
    | ApplySettings
    | Drain
    | Reopen
    | StageIs
    | MasterEvents
    | TakeRoutes
    | CommandFinished
)
WorkerToMaster = Ready | AcceptingStarted | Draining | Failed | SettingsApplied
IssuerToMaster = Ready | SettingsApplied
AdminToMaster = Ready | Failed | SettingsApplied | RoutesTaken | Command | SetLogLevel
"Commands come from the admin process only: workers handle untrusted input."
FromChild = WorkerToMaster | AdminToMaster | IssuerToMaster
AboutRoutes = RoutesAre | RoutesPart | HoldRoutes | SwitchRoutes
FromReceiver = RoutesWanted | RoutesFetched | RoutesHeld
ControlRequest = (
    AskSnapshot
    | AskExplain
    | AskRoutes
    | AskName
    | AskStatus
    | AskTop
    | AskClients
    | AskLogLevel
    | SetLogLevel
    | Invalidate
    | DrainOf
    | RenewTokens
    | ServeChallenges
    | AskHostname
)
ToWorker = RoutesLearned | HealthEventsSeen | Changed | PagesAre | ControlRequest | AboutRoutes
FromWorker = (
    Hello | Drained | ControlReply | RoutesLearned | HealthEventsSeen | Changed | FromReceiver | CertificatesWanted
)
FromIssuer = ServeChallenges | AskHostname | Changed
ToIssuer = ControlReply | CertificatesWanted


class BadMessage(Exception):
    """A message that violates the protocol, or cannot be encoded. After one, nothing more can be read."""


def packed(message: Message) -> bytes:
    """Encode a message with its length. Raises BadMessage when it is too long, or holds what cannot be encoded: an
    integer of more than 64 bits, a lone surrogate."""
    try:
        body = msgspec.msgpack.encode(message)
    except (ValueError, TypeError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise BadMessage(f"{type(message).__name__} cannot be encoded: {error}") from error
    if len(body) > MOST:
        raise BadMessage(f"{type(message).__name__} of {len(body)} bytes, at most {MOST}")
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Decodes messages of these kinds from a stream of bytes. Buffers one message at most."""

    def __init__(self, kinds: object, most: int = MOST) -> None:
        self._decoder = msgspec.msgpack.Decoder(kinds)
        self._data = bytearray()
        self.most = most
        "Maximum bytes of the next message."

    def feed(self, data: bytes) -> Iterator[Any]:
        """The messages that are complete with these bytes. Raises BadMessage."""
        self._data += data
        while len(self._data) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._data)
            if length > self.most:
                raise BadMessage(f"a message of {length} bytes, at most {self.most}")
            end = _LENGTH.size + length
            if len(self._data) < end:
                return
            body = bytes(self._data[_LENGTH.size : end])
            del self._data[:end]
            try:
                yield self._decoder.decode(body)
            except msgspec.MsgspecError as error:
                raise BadMessage(str(error)) from error
