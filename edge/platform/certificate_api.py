"""The core API's certificates: one for each hostname that an environment has, issued at the first lookup.

    GET /v1/certificates/{hostname}   200 certificate and key | 304 unchanged | 404 no such hostname

Private keys leave the platform here, so it must be out of reach of others: on loopback, as in the demo.
"""

import hashlib
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from edge.platform.pki import PocketPki
from edge.platform.registry import Registry
from edge.platform.route_api import JSON, CacheControl, problem


class IssuedDocument(msgspec.Struct, frozen=True):
    """A certificate and its key, PEM."""

    chain: str
    key: str


class CertificateDocument(msgspec.Struct, frozen=True):
    """The certificates of one hostname."""

    names: list[str]
    generation: int
    certificates: list[IssuedDocument]


@dataclass(slots=True)
class CertificateApi:
    """The handler. It issues for hostnames of the registry only."""

    registry: Registry
    pki: PocketPki
    freshness: CacheControl = field(default_factory=CacheControl)

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/v1/certificates/{hostname}", self.certificate, allow_head=False)

    async def certificate(self, request: web.Request) -> web.StreamResponse:
        hostname = request.match_info["hostname"].lower()
        if self.registry.environment_of(hostname) is None:
            sentence = f"No environment has the hostname {hostname[:300]}."
            return problem(404, sentence, Cache_Control=self.freshness.unknown)
        issued = self.pki.for_site(hostname)
        generation = self.pki.generation_of(hostname)
        document = CertificateDocument([hostname], generation, [IssuedDocument(issued.chain, issued.key)])
        body = msgspec.json.encode(document)
        tag = hashlib.blake2b(body, digest_size=12).hexdigest()
        headers = {"Cache-Control": self.freshness.known, "ETag": f'"{tag}"'}
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=JSON, headers=headers)
