"""Settings of TLS: with which versions and certificates clients are served on listeners with `tls`."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from edge.rules.settings.section import DAY, HOUR, MINUTE, Cold, Section
from edge.rules.settings.values import Count, Duration, FilePath


class TlsSettings(Section):
    """TLS for clients, on listeners with `tls: true`."""

    profile: Cold[Literal["intermediate", "modern"]] = "intermediate"
    "Mozilla's recommendations, 6.0. intermediate: TLS 1.2 and 1.3; modern: TLS 1.3 only."
    ready: Cold[Count] = Field(default=5000, ge=1, le=1_000_000)
    "Certificates that each worker keeps ready to use, the latest used ones; 24 KiB each."
    ticket_rotation: Cold[Duration] = Field(default=12.0 * HOUR, ge=10 * MINUTE, le=7 * DAY)
    "How long one key makes session tickets, which are accepted for as long again; all workers have the same key."
    certificate: Cold[FilePath] = None
    "File with a certificate and its chain, in PEM, for all names."
    key: Cold[FilePath] = None
    "File with its private key, in PEM, not encrypted."

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if (self.certificate is None) != (self.key is None):
            yield "key" if self.key is None else "certificate", "is needed: certificate and key belong together"
