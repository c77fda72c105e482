"""Settings of TLS: certificates of sites, tickets, and the certificates with which styx identifies itself."""

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from edge.rules.certificates.certificate_names import hostname_in
from edge.rules.settings.section import DAY, GIB, HOUR, MIB, Cold, Section
from edge.rules.settings.values import Count, Duration, FilePath, Flag, Size, Text, described, wrong

FROM_CORE_API: Final = "core_api"
HTTPS_PORT: Final = 443
_DIRECTORY: Final = re.compile(r"https://[^\s/?#@]+(/[^\s?#]*)?")
_CONTACT: Final = re.compile(r"[^\s@,:]+@[^\s@,:]+")


def _source(value: object) -> str:
    text = value if isinstance(value, str) else ""
    if text == FROM_CORE_API or (text.startswith("file:/") and "\0" not in text and not text.startswith("file://")):
        return str(text)
    raise wrong(f"must be core_api or a directory such as file:/etc/styx/certificates, not {described(value)}")


def _directory_url(value: object) -> str | None:
    if value is None or (isinstance(value, str) and _DIRECTORY.fullmatch(value)):
        return value
    raise wrong(
        f"must be null or an https address such as https://acme-v02.api.letsencrypt.org/directory, not "
        f"{described(value)}"
    )


def _contact(value: object) -> str:
    if isinstance(value, str) and _CONTACT.fullmatch(value):
        return value
    raise wrong(f"must be an email address such as ops@example.org, not {described(value)}")


def _hostname(value: object) -> str | None:
    name = None if value is None else hostname_in(value) if isinstance(value, str) else ""
    if value is not None and not name:
        raise wrong(f"must be a hostname such as www.example.org, not {described(value)}")
    return name


def _redirect(value: object) -> int:
    """The port to which a listener redirects; 0 = it does not."""
    if isinstance(value, bool):
        return HTTPS_PORT if value else 0
    if not isinstance(value, int) or not 1 <= value <= 65535:
        raise wrong(f"must be true, false or a port, not {described(value)}")
    return value


CertificateSource = Annotated[
    str, BeforeValidator(_source), WithJsonSchema({"type": "string", "pattern": "^(core_api|file:/(?!/).*)$"})
]
Hostname = Annotated[
    str | None, BeforeValidator(_hostname), WithJsonSchema({"type": ["string", "null"], "minLength": 1})
]
RedirectPort = Annotated[
    int,
    BeforeValidator(_redirect),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 1, "maximum": 65535}]}),
]

DirectoryUrl = Annotated[
    str | None,
    BeforeValidator(_directory_url),
    WithJsonSchema({"type": ["string", "null"], "pattern": "^https://"}),
]
Contact = Annotated[str, BeforeValidator(_contact), WithJsonSchema({"type": "string", "format": "email"})]


class TicketSettings(Section):
    """Session tickets, with which clients resume their TLS sessions at any worker."""

    rotate: Cold[Duration] = Field(default=12.0 * HOUR, ge=60, le=30 * DAY)
    "How long one key makes new tickets; those of the key before it are still accepted for as long again."
    file: Cold[FilePath] = None
    "File (mode 0600) of secrets that several edges share, one a line; the first makes tickets. null = none."


class AcmeSettings(Section):
    """Certificates from an ACME authority such as Let's Encrypt, by http-01, into the directory of certificates.
    Needs `pip install styx-edge[acme]`."""

    directory_url: Cold[DirectoryUrl] = None
    "The authority's directory; null = off. Let's Encrypt: https://acme-v02.api.letsencrypt.org/directory."
    accept_terms: Cold[Flag] = False
    "Whether you accept the authority's terms of service; nothing is ordered without it."
    contact: Cold[tuple[Contact, ...]] = ()
    "Email addresses for the account, which many authorities do not need."
    ca_file: Cold[FilePath] = None
    "File with the certificates believed for the authority's own server, as PEM; null = those of the system."
    profile: Cold[Text] = ""
    'Profile of certificates, one that the authority offers, such as shortlived; "" = its default.'
    eab_key_id: Cold[Text] = ""
    'Key id of an external account, for authorities that ask for one (EAB); "" = none.'
    eab_key_file: Cold[FilePath] = None
    "File with the HMAC key of the external account, base64url as the authority shows it."
    orders_per_hour: Cold[Count] = Field(default=50, ge=1, le=10_000)
    "Orders within an hour, first certificates and renewals together; further ones wait."
    orders_per_domain: Cold[Count] = Field(default=40, ge=1, le=100_000)
    "First certificates within seven days for the names below one registered domain, such as example.co.uk."
    concurrency: Cold[Count] = Field(default=4, ge=1, le=64)
    "Orders under way at once."

    @property
    def is_on(self) -> bool:
        """Whether certificates are ordered."""
        return self.directory_url is not None

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.is_on and not self.accept_terms:
            yield "accept_terms", "must be true: the authority issues certificates on its terms of service only"
        if bool(self.eab_key_id) != (self.eab_key_file is not None):
            one, other = ("eab_key_id", "eab_key_file") if self.eab_key_id else ("eab_key_file", "eab_key_id")
            yield one, f"needs {other} as well"


class TlsSettings(Section):
    """TLS for clients: of the listeners that have `tls: true`."""

    certificates: Cold[CertificateSource] = FROM_CORE_API
    "core_api = asked for at a name's first handshake; file:/DIRECTORY = NAME.pem with NAME.key, or both in it."
    default: Cold[Hostname] = None
    "Hostname whose certificate is served without SNI or for unknown names; null = such handshakes are refused."
    profile: Cold[Literal["intermediate", "modern"]] = "intermediate"
    "Versions and ciphers, as Mozilla's profiles: intermediate = TLS 1.2 and 1.3, modern = 1.3 only."
    ready: Cold[Count] = Field(default=5000, ge=1, le=1_000_000)
    "Names with a ready TLS context in each worker, 25 KiB each; others get one at their next handshake."
    capacity: Cold[Count] = Field(default=100_000, ge=1, le=10_000_000)
    "Certificates of the core API kept in each worker, about 2 KiB each; the least recently used one is evicted."
    memory: Cold[Size] = Field(default=512 * MIB, ge=MIB, le=64 * GIB)
    "Memory for them in each worker; beyond it, the least recently used ones are evicted as well."
    max_age: Cold[Duration] = Field(default=1.0 * HOUR, ge=1, le=30 * DAY)
    "How long a certificate is used without a lookup, unless Cache-Control says otherwise; never when expired."
    concurrency: Cold[Count] = Field(default=64, ge=1, le=10_000)
    "Lookups of certificates in flight at once in each worker; more wait."
    tickets: TicketSettings = TicketSettings()
    acme: AcmeSettings = AcmeSettings()

    @property
    def directory(self) -> str | None:
        """The directory of certificates; None = they come from the core API."""
        return self.certificates.removeprefix("file:") if self.certificates != FROM_CORE_API else None

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.acme.is_on and self.directory is None:
            yield "certificates", "must be file:/DIRECTORY, where tls.acme keeps certificates, keys and its account"


class IdentitySettings(Section):
    """A certificate with which styx identifies itself, and whom it believes."""

    ca: Cold[FilePath] = None
    "File with the certificates of the authorities that are believed, as PEM; null = those of the system."
    certificate: Cold[FilePath] = None
    "File with the certificate of styx and its issuers, as PEM; null = none is shown."
    key: Cold[FilePath] = None
    "File with its private key, as PEM without a password."

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are named."""
        return tuple(path for path in (self.ca, self.certificate, self.key) if path is not None)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        for one, other in (("certificate", "key"), ("key", "certificate")):
            if getattr(self, one) is not None and getattr(self, other) is None:
                yield one, f"needs {other} as well"


_NAME_OF_BACKEND: Final = re.compile(r"[A-Za-z0-9_.-]*\{id\}[A-Za-z0-9_.-]*")


class BackendIdentitySettings(IdentitySettings):
    """TLS to the backends whose route asks for it: both sides identify themselves."""

    name: Cold[Text] = "{id}.containers.internal"
    "DNS name that the certificate of a backend must have; {id} = the id of the backend."

    @property
    def is_set(self) -> bool:
        """Whether backends may be reached over TLS: it is known who is believed, or who styx is."""
        return self.ca is not None or self.certificate is not None

    @property
    def names(self) -> str | None:
        """`name`; None = there is no TLS to backends."""
        return self.name if self.is_set else None

    def contradictions(self) -> Iterator[tuple[str, str]]:
        yield from super().contradictions()
        if not _NAME_OF_BACKEND.fullmatch(self.name) or hostname_in(self.name.replace("{id}", "a")) is None:
            yield "name", f"must be a hostname with {{id}} in it, not {described(self.name)}"


class BackendSettings(Section):
    """Connections to backends, besides their pool."""

    tls: BackendIdentitySettings = BackendIdentitySettings()
