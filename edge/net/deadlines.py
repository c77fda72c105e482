"""What an exchange waits for, and what it means when that does not come in time.

An exchange has one deadline at a time, watched by the sweep. It knows what it is for: so what has failed when it
passes is a look-up, whatever phase the exchange is in by then.
"""

from collections.abc import Mapping
from enum import Enum

from edge.rules.outcomes import Cause


class Deadline(Enum):
    """What is waited for."""

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


TIMEOUT_CAUSES: Mapping[Deadline, Cause] = {
    Deadline.ROUTE: Cause.LOOKUP_FAILED,
    Deadline.CONNECTION: Cause.CONNECT_TIMEOUT,
    Deadline.CONTINUE: Cause.NO_CONTINUE,
    Deadline.REQUEST_BODY: Cause.REQUEST_TIMEOUT,
    Deadline.BACKEND_WRITE: Cause.STALLED,
    Deadline.RESPONSE: Cause.FIRST_BYTE_TIMEOUT,
    Deadline.RESPONSE_BODY: Cause.STALLED,
    Deadline.CLIENT_WRITE: Cause.CLIENT_STALLED,
}
"""Why an exchange ends whose deadline has passed. ATTEMPT is not here: the attempts before it tell why. Nor is
PERMISSION: the body is sent without it."""
COLD_CAUSES: Mapping[Deadline, Cause] = {
    **TIMEOUT_CAUSES,
    Deadline.BACKEND_WRITE: Cause.COLD_START_TIMEOUT,
    Deadline.RESPONSE: Cause.COLD_START_TIMEOUT,
}
"The same where the backend was being started."
