"""The sequence of requests of `styx check-core-api`; `edge/rules/core_api` checks the responses."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from edge.rules.core_api.certificate_judgement import judged_certificate
from edge.rules.core_api.change_judgement import (
    NOT_OFFERED,
    UNKNOWN_ID,
    judged_resumption,
    judged_stream,
    judged_unknown_id,
    last_id_in,
)
from edge.rules.core_api.contract_findings import ContractFinding, note
from edge.rules.core_api.route_judgement import (
    JudgedRoute,
    judged_burst,
    judged_not_modified,
    judged_odd_name,
    judged_other_etag,
    judged_repeat,
    judged_route,
    judged_siblings,
    judged_times,
    judged_unknown,
    judged_without_token,
)
from edge.rules.routing.route_validation import BackendPolicy
from edge.rules.settings import CoreApiSettings
from edge.run.core_api_check.core_api_requests import CoreApiRequests, has_event, has_heartbeat

OTHER_ETAG: Final = '"styx-check-no-such-etag"'
UNKNOWN: Final = "no-such-site.styx-check.invalid"
"A hostname that cannot exist (RFC 6761)."
ODD_NAMES: Final = (
    (f"{'a' * 63}.styx-check.invalid", "the longest label"),
    ("_acme-challenge.styx-check.invalid", "a name with an underscore"),
    ("xn--bcher-kva.styx-check.invalid", "a name in another script"),
    (".".join(["a" * 61] * 4), "a name of 247 characters"),
    ("localhost", "a name without a dot"),
)


class CheckPlan(NamedTuple):
    """The scope of a check."""

    settings: CoreApiSettings
    hostnames: Sequence[str]
    "Hostnames that the platform serves."
    wait: float
    "Seconds for which the change stream is read, at most."
    changes: bool = True
    certificates: bool = False
    quiet: float = 1.0
    "Seconds for which a resumed stream is read: what was missed comes at once."


async def checked_core_api(plan: CheckPlan) -> AsyncIterator[ContractFinding]:
    """Play the contract; yields each finding when it is there. Raises OSError when the files of the token or the
    certificates cannot be read."""
    async with CoreApiRequests(plan.settings) as requests:
        found = await _routes(plan, requests)
        for finding in found:
            yield finding
        if all(finding.check == "no_response" for finding in found):
            return
        if plan.certificates and plan.settings.may_send_keys:
            for hostname in plan.hostnames:
                reply = await requests.certificate(hostname)
                for finding in judged_certificate(hostname, reply, time.time()):
                    yield finding
        elif plan.certificates:
            words = "certificates are not asked for: private keys must not be sent in the clear, nor to anybody"
            yield note("certificate", f"{words} (https and --certificate, or a core API on this machine)")
        if plan.changes:
            async for finding in _changes(plan, requests):
                yield finding
    if plan.settings.token_file is not None:
        async with CoreApiRequests(plan.settings.model_copy(update={"token_file": None})) as stranger:
            for finding in judged_without_token(await stranger.route(plan.hostnames[0])):
                yield finding


async def _routes(plan: CheckPlan, requests: CoreApiRequests) -> list[ContractFinding]:
    settings = plan.settings
    policy = BackendPolicy(
        settings.backend_networks,
        loopback=settings.is_local,
        sockets=settings.allows_unix_backends,
        tls_names="{id}.containers.internal",
    )
    found: list[ContractFinding] = []
    judged: list[JudgedRoute] = []
    seconds: list[float] = []
    for hostname in plan.hostnames:
        reply = await requests.route(hostname)
        first = judged_route(hostname, reply, policy)
        found += first.findings
        seconds.append(reply.seconds)
        if first.route is None:
            continue
        judged.append(first)
        if first.etag is not None:
            again = await requests.route(hostname, first.etag)
            found += judged_not_modified(first, again, reply.body)
            found += judged_other_etag(hostname, await requests.route(hostname, OTHER_ETAG))
            seconds.append(again.seconds)
        found += judged_repeat(first, judged_route(hostname, await requests.route(hostname), policy))
    if all(finding.check == "no_response" for finding in found):
        return found
    found += judged_siblings(judged)
    found += judged_unknown(UNKNOWN, await requests.route(UNKNOWN))
    for hostname, why in ODD_NAMES:
        found += judged_odd_name(hostname, why, await requests.route(hostname))
    found += judged_times(seconds, settings.timeout)
    if judged:
        names = [judged[n % len(judged)].hostname for n in range(settings.concurrency)]
        replies = await asyncio.gather(*(requests.route(name) for name in names))
        found += judged_burst(replies, settings.timeout)
    return found


async def _changes(plan: CheckPlan, requests: CoreApiRequests) -> AsyncIterator[ContractFinding]:
    first = await requests.stream("", plan.wait, has_heartbeat)
    for finding in judged_stream(first):
        yield finding
    if first.status in NOT_OFFERED or first.error or first.status != 200:
        return
    unknown = await requests.stream(UNKNOWN_ID, min(plan.wait, plan.settings.timeout), has_event)
    for finding in judged_unknown_id(unknown):
        yield finding
    if last_id := last_id_in(first, unknown):
        resumed = await requests.stream(last_id, plan.quiet, lambda reading: False)
        for finding in judged_resumption(resumed, last_id):
            yield finding
