"""The deadlines of an exchange: what it waits for, and why it ends when that does not come in time.

An exchange has one deadline at a time, which the sweep watches. The deadline says what it is for, so what has
failed when it passes is a lookup in a table, in whatever phase the exchange is.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from edge.rules.outcomes import Cause


class Deadline(Enum):
    """The event that an exchange waits for."""

    ROUTE = "route"
    ATTEMPT = "attempt"  # a slot, or a backend that is starting: the next attempt
    CONNECTION = "connection"
    CONTINUE = "continue"  # a 100 for which the client waits
    PERMISSION = "permission"  # a 100 for which the edge asked, before it sends a large body
    REQUEST_BODY = "request_body"  # enough of it from the client
    BACKEND_WRITE = "backend_write"  # the backend takes what was written
    RESPONSE = "response"  # its first byte
    RESPONSE_BODY = "response_body"  # more of it
    CLIENT_WRITE = "client_write"  # the client takes what was written


TIMEOUT_CAUSES: Final[Mapping[Deadline, Cause]] = {
    Deadline.ROUTE: Cause.LOOKUP_FAILED,
    Deadline.CONNECTION: Cause.CONNECT_TIMEOUT,
    Deadline.CONTINUE: Cause.NO_CONTINUE,
    Deadline.REQUEST_BODY: Cause.REQUEST_TIMEOUT,
    Deadline.BACKEND_WRITE: Cause.STALLED,
    Deadline.RESPONSE: Cause.FIRST_BYTE_TIMEOUT,
    Deadline.RESPONSE_BODY: Cause.STALLED,
    Deadline.CLIENT_WRITE: Cause.CLIENT_STALLED,
}
"""Why an exchange ends when this deadline has passed. Without ATTEMPT, where the causes of the attempts before
decide, and PERMISSION, after which the body is sent all the same."""
COLD_CAUSES: Final[Mapping[Deadline, Cause]] = {
    **TIMEOUT_CAUSES,
    Deadline.BACKEND_WRITE: Cause.COLD_START_TIMEOUT,
    Deadline.RESPONSE: Cause.COLD_START_TIMEOUT,
}
"Why an exchange ends when this deadline has passed and the backend was being started."
