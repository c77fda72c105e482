"""Names in an operator's commands: whether they are known, and which known ones are nearest."""

import pwd

import msgspec

from edge.admin.admin_messages import DrainRequest, WorkerReplies
from edge.admin.control_api import ControlApi
from edge.rules.explain_records import ExplainedRoute, KnownName
from edge.rules.http.framing import RejectedRequest
from edge.rules.http.request_target import hostname_of
from edge.rules.nearest_names import nearest_names
from edge.rules.routing.routes import may_exist


async def nothing_known(control_api: ControlApi, host: str) -> str:
    """Say that no worker knows anything about this hostname, and which known ones are like it."""
    if not may_exist(host):
        pattern = " Ask about one of the hostnames that it stands for." if "*" in host else ""
        answered = f"requests for it are answered {_status_of(host)}, without a lookup."
        return f"{host} cannot be a hostname: {answered}{pattern}"
    known = known_name(await control_api.search_name("hostname", host))
    similar = f" Known is: {', '.join(known.nearest)}." if known is not None and known.nearest else ""
    return f"No request has asked for {host} yet, or its route was forgotten since.{similar}"


def _status_of(host: str) -> int:
    """The status of requests for a name that cannot be a hostname."""
    try:
        hostname_of([host.encode()])
    except RejectedRequest:
        return 400
    return 404


async def similar_names(control_api: ControlApi, host: str, replies: WorkerReplies) -> list[str]:
    """Known hostnames that are like this one, if a worker knows that it does not exist."""
    found = [
        msgspec.json.decode(reply.content, type=ExplainedRoute | None)
        for reply in replies.workers
        if not reply.error
    ]
    if not any(each is not None and not each.known and each.freshness != "none" for each in found):
        return []
    known = known_name(await control_api.search_name("hostname", host))
    return [] if known is None else known.nearest


async def why_not_drained(control_api: ControlApi, drain: DrainRequest) -> str:
    """Why this drain cannot begin or end: nothing of this name is known. "" = it can."""
    hint = ""
    if drain.seconds:
        known = known_name(await control_api.search_name(drain.kind, drain.name))
        if known is None or known.known:
            return ""
        what = f"No route that this edge knows has the {drain.kind} {drain.name}."
        nearest = known.nearest
        hint = " A backend is named site/environment/id." if drain.kind == "backend" else ""
        hint += " A route is known from its first request on; `--force` drains the name before that."
    else:
        names = [each.name for each in control_api.drains() if each.kind == drain.kind]
        if drain.name in names:
            return ""
        what, nearest = f"The {drain.kind} {drain.name} is not drained.", nearest_names(drain.name, names)
    return what + (f" Did you mean {' or '.join(nearest)}?" if nearest else "") + hint


def known_name(replies: WorkerReplies) -> KnownName | None:
    """What the workers together know about a name; None = no worker replied."""
    found = [msgspec.json.decode(reply.content, type=KnownName) for reply in replies.workers if not reply.error]
    if not found:
        return None
    nearest = dict.fromkeys(name for each in found for name in each.nearest)
    return KnownName(any(each.known for each in found), list(nearest))


def user_name(user: int | None) -> str:
    """The name of a user of this machine; None = whoever has the admin token."""
    if user is None:
        return "the admin token"
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
