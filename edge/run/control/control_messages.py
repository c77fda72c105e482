"""What the processes of one edge say to each other.

    master ◄── lifeline ──► worker, admin process      one socket pair each, made before the fork
    admin process ◄── control channel ──► worker       a Unix socket of which the master holds the listening end

A message is a msgpack array behind four bytes of length. Both ends are one version of styx, for each master starts
its own processes; the control channel says so all the same (`Hello.version`), for a process may be left over.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec

from edge.rules.balancing.health_records import HealthEvent
from edge.rules.routing.change_records import Change

MOST: Final = 8 << 20
"Bytes of one message. An explanation of an environment with 30 containers has about 10 KiB."
MOST_FROM_CHILD: Final = 64 << 10
"Bytes of one message to the master: they say little."
TOLD_AT_ONCE: Final = 2000
TOLD_BYTES: Final = 1 << 20
"Records of routes in one message, and bytes: one of three backends has 400."
MOST_FROM_STRANGER: Final = 4 << 10
"Bytes of the first message on a connection of the control channel: a `Hello` has less than a hundred."
_LENGTH = struct.Struct("!I")


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What all messages have in common."""


class NumberedMessage(Message, frozen=True):
    """An order or a question, or the answer to one, which bears the same number."""

    number: int


class ResultMessage(NumberedMessage, frozen=True):
    """What came of an order."""

    done: bool
    words: list[str]
    "What has changed; or why it was not done."


class RouteSetMessage(Message, frozen=True):
    """About one version of the set of routes that is pushed, see `net/routing/pushed_routes.py`."""

    version: int


# master to child


class ApplySettings(Message, frozen=True):
    """A new configuration. Its hot settings hold from now on; the child answers `SettingsApplied`."""

    text: str
    name: str
    number: int


class StartAccepting(Message, frozen=True):
    """Accept from now on; a worker answers `AcceptingStarted`."""


class AcceptFor(Message, frozen=True):
    """Accept for this slot as well, whose worker does not. Its socket of that listener (a number) comes along."""

    slot: int
    listener: int


class StopAcceptingFor(Message, frozen=True):
    """No longer accept for this slot: its worker does."""

    slot: int


class Drain(Message, frozen=True):
    """Accept no more, finish within so many seconds, end. See `DrainSettings`."""

    timeout: float
    idle: float


class Reopen(Message, frozen=True):
    """Open the log files anew: they were rotated."""


class StageIs(Message, frozen=True):
    """Where the edge is in its life, for `/readyz`, and who its workers are."""

    stage: str
    reason: str
    workers: list[tuple[int, int]]
    "Slot and process id of each."


class TakeRoutes(NumberedMessage, frozen=True):
    """Take over what the file of routes says now; the admin process answers `RoutesTaken`."""


class CommandFinished(ResultMessage, frozen=True):
    """How a wish of the admin process went."""


# child to master


class Ready(Message, frozen=True):
    """The child could do its work: a worker waits for `StartAccepting`, the admin process has begun."""


class AcceptingStarted(Message, frozen=True):
    """The worker accepts."""


class Draining(Message, frozen=True):
    """The worker accepts no more, and will end."""


class Failed(Message, frozen=True):
    """The child cannot do its work, and ends."""

    why: str


class SettingsApplied(NumberedMessage, frozen=True):
    """The new settings hold; `why` not, if they do not."""

    why: str


class RoutesTaken(ResultMessage, frozen=True):
    """What came of `TakeRoutes`. Not `done` = the file cannot be used, and `words` tell why."""


class Command(NumberedMessage, frozen=True):
    """An operator wants this."""

    what: Literal["reload", "upgrade"]


# control channel, either way


class RoutesLearned(Message, frozen=True):
    """Records of routes (`rules/routing/route_records.py`) that the core API has told one worker."""

    records: list[bytes]


class HealthEventsSeen(Message, frozen=True):
    """What one worker found out about backends."""

    evidence: list[HealthEvent]


# control channel, worker to admin process


class Hello(Message, frozen=True):
    """Who is there; the first message. The `secret` is known to processes of the same master only."""

    version: str
    secret: bytes
    slot: int
    pid: int


class Drained(Message, frozen=True):
    """What this worker drains, told after each `Hello`: an admin process before this one may have said so."""

    drains: list[tuple[str, str, float]]
    "Kind, name, seconds left."


class ControlReply(NumberedMessage, frozen=True):
    """The answer to a question, as JSON; "" = there is none. `why` is set when it failed."""

    body: bytes
    why: str = ""


# control channel, admin process to worker


class AskSnapshot(NumberedMessage, frozen=True):
    """What do you tell about yourself?"""


class AskExplain(NumberedMessage, frozen=True):
    """What do you know of a hostname?"""

    host: str


class AskRoutes(NumberedMessage, frozen=True):
    """A page of the list of routes: from this place, so many, of a site, with a freshness; "" = any."""

    start: int
    most: int
    site: str
    freshness: str


class Invalidate(NumberedMessage, frozen=True):
    """Forget routes: of a hostname, of a site, of an environment (`site/environment`), or all."""

    kind: str
    name: str


class DrainOf(NumberedMessage, frozen=True):
    """No new requests for a backend, a server or an environment, for so many seconds; 0 = as usual again."""

    kind: str
    name: str
    seconds: float


class Changed(Message, frozen=True):
    """What has changed: as the platform or another edge tells, or, from a worker, as it found out. Who may have
    missed some is told that everything has."""

    changes: list[Change]


class RenewTokens(NumberedMessage, frozen=True):
    """A token file has changed."""


# control channel: all routes of a source that is pushed, see `net/routing/pushed_routes.py`


class RoutesAre(RouteSetMessage, frozen=True):
    """Admin process to worker: this set is what should hold. The worker asks for the parts that it consists of."""

    parts: int


class RoutesWanted(RouteSetMessage, frozen=True):
    """Worker to admin process: this part, please."""

    part: int


class RoutesPart(RouteSetMessage, frozen=True):
    """See `rules/route_sets/route_set.py`."""

    part: int
    data: bytes


class RoutesFetched(RouteSetMessage, frozen=True):
    """Worker to admin process: it has all parts, or the set holds already."""


class HoldRoutes(RouteSetMessage, frozen=True):
    """All workers have all parts: hold."""


class RoutesHeld(RouteSetMessage, frozen=True):
    """Worker to admin process: it does."""


class SwitchRoutes(RouteSetMessage, frozen=True):
    """All workers hold: switch."""


ToChild = (
    StartAccepting
    | AcceptFor
    | StopAcceptingFor
    | ApplySettings
    | Drain
    | Reopen
    | StageIs
    | TakeRoutes
    | CommandFinished
)
WorkerToMaster = Ready | AcceptingStarted | Draining | Failed | SettingsApplied
AdminToMaster = Ready | Failed | SettingsApplied | RoutesTaken | Command
"Orders come from the admin process only: workers have to do with strangers."
FromChild = WorkerToMaster | AdminToMaster
AboutRoutes = RoutesAre | RoutesPart | HoldRoutes | SwitchRoutes
FromReceiver = RoutesWanted | RoutesFetched | RoutesHeld
Question = AskSnapshot | AskExplain | AskRoutes | Invalidate | DrainOf | RenewTokens
ToWorker = RoutesLearned | HealthEventsSeen | Changed | Question | AboutRoutes
FromWorker = Hello | Drained | ControlReply | RoutesLearned | HealthEventsSeen | Changed | FromReceiver


class BadMessage(Exception):
    """The other side does not speak as agreed: nothing more can be understood of it."""


def packed(message: Message) -> bytes:
    """As it is sent. Raises BadMessage when it is too long, or holds what cannot be encoded: an integer of more
    than 64 bits, a lone surrogate."""
    try:
        body = msgspec.msgpack.encode(message)
    except (ValueError, TypeError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise BadMessage(f"{type(message).__name__} cannot be encoded: {error}") from error
    if len(body) > MOST:
        raise BadMessage(f"{type(message).__name__} of {len(body)} bytes, at most {MOST}")
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Takes bytes as they come and gives whole messages of these kinds. Holds one message at most."""

    def __init__(self, kinds: object, most: int = MOST) -> None:
        self._decoder = msgspec.msgpack.Decoder(kinds)
        self._data = bytearray()
        self.most = most
        "Bytes of the next message."

    def feed(self, data: bytes) -> Iterator[Any]:
        """Messages that are whole now. Raises BadMessage."""
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
