"""Explains each phase, blame and cause to operators, with what to do about it.

    python -m edge.rules.log.cause_texts > docs/something_is_wrong.md

Statuses, reasons and blame come from the table of failures (`outcomes.py`). Tests check that the page is up to
date and that everything has its text.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from edge.rules.http.local_reply import RETRY_AFTER
from edge.rules.outcomes import VERDICTS, Blame, Cause, Phase


class CauseText(NamedTuple):
    """A cause in words."""

    meaning: str
    remedy: str


PHASES: Final[Mapping[Phase, str]] = {
    Phase.HEAD: "The head of the request was being read and checked. No backend was involved.",
    Phase.ROUTE: "The route of the hostname was looked up. No backend was involved.",
    Phase.PICK: "A backend was to be picked, or a request waited until one could be.",
    Phase.CONNECT: "A connection to the backend was being opened. No byte of the request was sent.",
    Phase.SEND: "The request was being sent to the backend.",
    Phase.RESPONSE: "The request was sent. The head of the response was awaited.",
    Phase.BODY: "The response was being passed on, or a tunnel was open. The client has the status of the backend.",
    Phase.FINISHED: "The exchange is complete.",
}
BLAMES: Final[Mapping[Blame, str]] = {
    Blame.CLIENT: ("The client: what it sent, how much, or that it left. Look at the client, not at the platform."),
    Blame.BACKEND: (
        "The container, its server, or the network to it. `attempts` in the access log names each that was tried."
    ),
    Blame.CORE: ("The core API: it did not respond, or what it says about the site does not lead to a response."),
    Blame.EDGE: ("styx itself: a limit was reached, an operator drained the site, or it was stopped."),
    Blame.NOBODY: ("Nobody: nothing went wrong at the edge, though the application's own status may be an error."),
}

TEXTS: Final[Mapping[Cause, CauseText]] = {
    Cause.OK: CauseText(
        "The backend's response was passed on completely.",
        "Nothing.",
    ),
    Cause.REDIRECTED: CauseText(
        "The listener redirects to https, or the route is a redirect to another site.",
        "Nothing, unless the redirect is wrong: then look at `redirect_to_https` of the listener and "
        "`redirect` of the route.",
    ),
    Cause.LOCAL_REPLY: CauseText(
        "styx answered OPTIONS with `Max-Forwards: 0` itself, as RFC 9110 asks it to.",
        "Nothing.",
    ),
    Cause.SERVER_ERROR: CauseText(
        "The application itself responded 500, 501 or 503. The response was passed on unchanged, without a retry.",
        "Look at the application's log. If one container does it more often than its neighbours, it earns "
        "demerits.",
    ),
    Cause.BAD_REQUEST: CauseText(
        "The request was not valid HTTP, or two readers could have read it differently.",
        "`styx log-level debug --for 2m` logs what was wrong with each such request, and from whom. "
        "[http.md](http.md) lists what is rejected. Many from one address are a scanner or a broken client.",
    ),
    Cause.NOT_IMPLEMENTED: CauseText(
        "The method was CONNECT, or a transfer coding other than chunked was used.",
        "styx is no forward proxy. Configure the client not to use it as one.",
    ),
    Cause.BAD_VERSION: CauseText(
        "The request line names a version that is neither HTTP/1.0 nor HTTP/1.1.",
        "HTTP/2 is spoken on TLS listeners, or in plain text on a listener with `http2: true`.",
    ),
    Cause.METHOD_NOT_ALLOWED: CauseText(
        "The method was TRACE, which is not passed on.",
        "Set `forwarding.trace` if an application needs it.",
    ),
    Cause.LOOP_DETECTED: CauseText(
        "The request has passed this edge three times: a backend of the site leads back to styx.",
        "`styx explain HOST` shows the backends. Correct the one that is an address of an edge.",
    ),
    Cause.EMPTY_HOST: CauseText(
        "The request has no `Host`, or an empty one.",
        "Correct the client.",
    ),
    Cause.HOST_NOT_COVERED: CauseText(
        "The request asks for a host that the certificate of its connection does not cover.",
        "Browsers repeat it over a new connection by themselves. If it persists, the client sends one name in"
        " the TLS handshake and another one as `Host`.",
    ),
    Cause.REQUEST_TIMEOUT: CauseText(
        "The head did not arrive within `timeouts.head`, or the body came too slowly (`timeouts.body`, "
        "`limits.body_rate`).",
        "Usually a client on a bad network, or an attack with slow requests. Raise the timeouts only for "
        "clients that are known.",
    ),
    Cause.BODY_TOO_LARGE: CauseText(
        "The body is larger than `limits.body`.",
        "Raise `limits.body` if such uploads are meant.",
    ),
    Cause.URI_TOO_LONG: CauseText(
        "The request line is longer than `limits.request_line`.",
        "Let the application use POST, or raise the limit; backends have limits of their own.",
    ),
    Cause.EXPECTATION_FAILED: CauseText(
        "The request has an `Expect` other than `100-continue`.",
        "Correct the client; HTTP has no other expectation.",
    ),
    Cause.HEADERS_TOO_LARGE: CauseText(
        "The head is larger than `limits.head`, or has more fields than `limits.fields`.",
        "Mostly cookies that pile up: let the site delete some of them. Otherwise raise the limit.",
    ),
    Cause.CLIENT_GONE: CauseText(
        "The client closed its connection before the response was complete. 499 is in the access log only.",
        "Nothing, if it is rare. Many of one site: it is too slow for its visitors; compare `total_ms`.",
    ),
    Cause.CLIENT_STALLED: CauseText(
        "The client took none of the response for `timeouts.write_stall`, and was cut off.",
        "A client or a network that stood still. Nothing, unless it happens to a whole network.",
    ),
    Cause.UNKNOWN_HOST: CauseText(
        "The core API, or the file of routes, says that there is no such hostname.",
        "[Site unknown](incidents.md#site-unknown). `styx explain HOST` names hostnames that are like it.",
    ),
    Cause.UNKNOWN_HOST_LIMIT: CauseText(
        "The client has asked for too many hostnames that do not exist. Sites that exist are served to it all"
        " the same.",
        "[Client attack](incidents.md#client-attack). `styx clients` names it.",
    ),
    Cause.NO_BACKENDS: CauseText(
        "The route of the site has no backend that can be used.",
        "`styx explain HOST` shows the route, and the backends that were left out of it with the reason. "
        "Start a container, or correct what the core API says.",
    ),
    Cause.DRAINED: CauseText(
        "An operator has drained all backends of the site.",
        "[Drained and forgotten](incidents.md#drained-and-forgotten). `styx drains` says who did it, and "
        "until when.",
    ),
    Cause.LOOKUP_FAILED: CauseText(
        "The core API did not say where the site is, and styx knew nothing of it from before.",
        "[Core API down](incidents.md#core-api-down). `styx check-core-api URL HOST` says what is wrong with "
        "its response.",
    ),
    Cause.MAINTENANCE: CauseText(
        "The core API says that the site is under maintenance.",
        "End the maintenance in the platform.",
    ),
    Cause.SITE_LIMIT: CauseText(
        "As many requests of the site as `limits.in_flight_per_environment` are in flight in the worker.",
        "The site is slow, or very busy: `styx explain HOST` shows `typical` times. More containers help; the"
        " limit protects other sites.",
    ),
    Cause.CLIENT_LIMIT: CauseText(
        "The site is busy, and this client has its share of the requests in flight (`limits.slots_per_client`).",
        "`styx clients` names it. If it is a proxy in front of styx, add it to `forwarding.trusted`.",
    ),
    Cause.EDGE_OVERLOADED: CauseText(
        "A limit of the edge is reached: connections in total or of one client, sockets, ports, or memory of "
        "the machine.",
        "`styx clients`, `styx top` and the events `too_few_open_files` and `connection_refused` say which. "
        "Raise `limits.connections`, or add an edge.",
    ),
    Cause.EDGE_STOPPED: CauseText(
        "styx was stopping, and the request had no response when `drain.timeout` was over.",
        "Raise `drain.timeout` above the longest request, or use `styx upgrade` and `styx reload`.",
    ),
    Cause.BUFFER_LIMIT: CauseText(
        "Slow clients held more memory than `limits.buffers`, and this one held most of it.",
        "Usually an attack by clients that do not read. Raise `limits.buffers` if they are real visitors.",
    ),
    Cause.CONNECT_FAILED: CauseText(
        "Nothing listens at the addresses of the backends: connects were refused.",
        "Have the containers stopped, or moved? [Wrong generation](incidents.md#wrong-generation), [route "
        "moved](incidents.md#route-moved).",
    ),
    Cause.CONNECT_TIMEOUT: CauseText(
        "Connects to the backends got no reply within `timeouts.connect`.",
        "A server or a network is down, or a firewall drops packets. `styx explain HOST` names servers that "
        "are suspect.",
    ),
    Cause.HOST_UNREACHABLE: CauseText(
        "The network says that it cannot reach the server of the backend.",
        "Look at routing and at the server.",
    ),
    Cause.WRONG_BACKEND: CauseText(
        "The backend should have proved by its certificate who it is, and did not: another container has its "
        "port now.",
        "The route is asked for anew by itself. If it persists, compare the certificate with `backends.tls.name`.",
    ),
    Cause.CERTIFICATE_REFUSED: CauseText(
        "The backend refused the certificate that styx showed.",
        "Check `backends.tls.certificate`, and which authorities the containers believe.",
    ),
    Cause.REFUSED: CauseText(
        "Every backend that was tried said that it is full (`X-Styx-Refused`).",
        "[All full](incidents.md#all-full). Add containers, or find out why requests take longer than usual.",
    ),
    Cause.MISDIRECTED: CauseText(
        "The backends said 421: the site is not theirs.",
        "The core API names old addresses: [route moved](incidents.md#route-moved).",
    ),
    Cause.EXPECT_REFUSED: CauseText(
        "The backend refused the `Expect: 100-continue` that styx had added; the request was sent again "
        "without it.",
        "Nothing.",
    ),
    Cause.STALE_CONNECTION: CauseText(
        "The backend closed an idle connection at the moment in which a request was written. It was not safe "
        "to repeat.",
        "Let the backend keep idle connections longer than `pool.idle_timeout`.",
    ),
    Cause.CONNECTION_UNACKNOWLEDGED: CauseText(
        "Nobody acknowledged what was sent to the backend: its server, or the way to it, is gone.",
        "Look at the server and the network.",
    ),
    Cause.CLOSED_EARLY: CauseText(
        "The backend closed the connection before it had responded.",
        "The application crashed, or was killed, often for lack of memory: look at the log of the container. "
        "A POST is not repeated, because it may have been executed.",
    ),
    Cause.BAD_ANSWER: CauseText(
        "The backend's response was not valid HTTP.",
        "Ask the backend directly, with `curl -v` and the address that `styx explain HOST` shows. Correct the "
        "application, or what listens on its port.",
    ),
    Cause.RESPONSE_TOO_LARGE: CauseText(
        "The head of the response is larger than `limits.response_head`, or has more fields than "
        "`limits.response_fields`.",
        "The event log tells its size. Mostly the application sets too many cookies.",
    ),
    Cause.GATEWAY_ERROR: CauseText(
        "The backend itself responded 502 or 504: what is behind it does not work. The response was passed on.",
        "Look at the log of the container's own proxy, such as nginx before php-fpm.",
    ),
    Cause.RETRY_REQUESTED: CauseText(
        "The application asked for another container (560), and there was none.",
        "Look at the application.",
    ),
    Cause.FIRST_BYTE_TIMEOUT: CauseText(
        "The backend had the request, and sent nothing for `timeouts.first_byte`.",
        "The application is slow or hangs. [One container slow](incidents.md#one-container-slow) tells which.",
    ),
    Cause.NO_CONTINUE: CauseText(
        "The client waits for `100 Continue`, and the backend sent neither that nor a response.",
        "The backend does not understand `Expect`. Send without it, or correct the backend.",
    ),
    Cause.COLD_START_TIMEOUT: CauseText(
        "The request started a sleeping container, which was not ready within `timeouts.first_byte_cold`.",
        "Find out why the container starts slowly, or raise the timeout.",
    ),
    Cause.STALLED: CauseText(
        "The backend stopped reading the request, or sending the response, for `timeouts.between_bytes`.",
        "The application hangs. Long pauses that are meant need a longer timeout.",
    ),
    Cause.TRUNCATED: CauseText(
        "The backend closed the connection in the middle of its response; the client's was cut as well, so "
        "that it cannot take the response for complete.",
        "The application crashed, or was killed, while it sent: look at the log of the container.",
    ),
    Cause.TUNNEL_IDLE: CauseText(
        "A WebSocket or another tunnel carried nothing for `timeouts.tunnel`, and was closed.",
        "Let the application send pings, or raise the timeout.",
    ),
    Cause.TUNNEL_CUT: CauseText(
        "The backend broke off a tunnel without closing it. A container that is replaced does so.",
        "Nothing; clients of WebSockets connect again.",
    ),
}

INTRODUCTION = """\
# Every error and its cause

A response that styx makes itself because something went wrong has the field `X-Styx-Error`; no other response has
it. It names the *reason*, which has a section below. The line in the access log with the same `id` (`X-Request-Id`
of the response) says more: `cause` why the exchange ended, `blame` who ended it, and `phase` how far it had come.
Blame and phase are one letter each: together, `BC` is a backend that could not be connected to.

What to do first in an incident is in [incidents.md](incidents.md); which failures are retried, and what they cost
a backend, is in [contracts.md](contracts.md#causes).

Made from `edge/rules/outcomes.py` and `edge/rules/log/cause_texts.py` by `python -m edge.rules.log.cause_texts >
docs/something_is_wrong.md`.
"""


def render() -> str:
    """The text of docs/something_is_wrong.md."""
    return "\n".join([INTRODUCTION, *_letters(), *_reasons(), *_others()]) + "\n"


def _letters() -> Iterator[str]:
    yield from ("## Letters", "", "The first letter is the blame:", "", "| letter | blame | |", "|---|---|---|")
    yield from (f"| `{blame.value}` | {blame.name.lower()} | {text} |" for blame, text in BLAMES.items())
    yield from (
        "",
        "The second one is the phase in which the exchange ended:",
        "",
        "| letter | phase | |",
        "|---|---|---|",
    )
    yield from (f"| `{phase.value}` | {phase.name.lower()} | {text} |" for phase, text in PHASES.items())
    yield ""


def _reasons() -> Iterator[str]:
    yield from ("## By X-Styx-Error", "")
    for reason in sorted({verdict.reason for verdict in VERDICTS.values() if verdict.reason}):
        yield from (f"### {reason}", "")
        rows = [(cause, verdict) for cause, verdict in VERDICTS.items() if verdict.reason == reason]
        yield from ("| cause | status | blame | meaning | what to do |", "|---|---|---|---|---|")
        for cause, verdict in rows:
            text = TEXTS[cause]
            words = (f"`{cause.value}`", str(verdict.status), verdict.blame.name.lower(), text.meaning, text.remedy)
            yield f"| {' | '.join(words)} |"
        yield ""
        if reason in RETRY_AFTER:
            yield from (f"The response has `Retry-After: {RETRY_AFTER[reason]}`.", "")


def _others() -> Iterator[str]:
    yield from ("## Causes without X-Styx-Error", "")
    yield from ("The client gets the response of the backend, or one that is no error.", "")
    yield from ("| cause | blame | meaning | what to do |", "|---|---|---|---|")
    for cause, verdict in VERDICTS.items():
        if not verdict.reason:
            text = TEXTS[cause]
            yield f"| `{cause.value}` | {verdict.blame.name.lower()} | {text.meaning} | {text.remedy} |"


if __name__ == "__main__":
    print(render(), end="")
