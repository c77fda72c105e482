"""Settings of TLS: what may stand together, and where private keys may come from."""

from typing import Any

import pytest
from pydantic import ValidationError

from edge.rules.settings import Settings
from edge.rules.settings.file import SettingsError, parse

FILES = {"certificate": "/etc/styx/edge.pem", "key": "/etc/styx/edge.key"}


def settings_of(listener: dict[str, Any], url: str = "http://127.0.0.1:9900", **more: Any) -> Settings:
    core_api = {"url": url, **more.pop("core_api", {})}
    listeners = ({"address": "127.0.0.1:0", **listener},)
    return Settings.model_validate({"listeners": listeners, "core_api": core_api, **more})


def faults(listener: dict[str, Any], url: str = "http://127.0.0.1:9900", **more: Any) -> str:
    with pytest.raises(ValidationError) as raised:
        settings_of(listener, url, **more)
    return str(raised.value)


@pytest.mark.parametrize(
    ("url", "core_api"),
    [
        ("http://127.0.0.1:1", {}),
        ("https://core.test", {"tls": FILES}),
        ("http://[::1]:1", {}),
        ("http://localhost", {}),
    ],
)
def test_where_private_keys_may_come_from(url: str, core_api: dict[str, Any]) -> None:
    assert settings_of({"tls": True}, url, core_api=core_api).tls.directory is None


@pytest.mark.parametrize(
    ("url", "core_api"),
    [
        ("http://core.test", {}),
        ("http://core.test", {"tls": FILES}),
        ("https://core.test", {}),
        ("http://10.0.0.1", {}),
    ],
)
def test_where_they_may_not(url: str, core_api: dict[str, Any]) -> None:
    assert "tls.certificates private keys must not be sent in the clear" in faults(
        {"tls": True}, url, core_api=core_api
    )
    settings_of({}, url, core_api=core_api)
    certificates = {"certificates": "file:/etc/styx/certificates"}
    assert (
        settings_of({"tls": True}, url, core_api=core_api, tls=certificates).tls.directory
        == "/etc/styx/certificates"
    )


def test_a_file_of_routes_has_no_certificates() -> None:
    assert "core_api.url is a file of routes" in faults({"tls": True}, "file:/etc/styx/routes.yaml")
    settings_of({"tls": True}, "file:/etc/styx/routes.yaml", tls={"certificates": "file:/c"})


@pytest.mark.parametrize(
    "source", ["", "acme", "file:", "file:certs", "file://host/certs", "/certs", "file:/a\0b", 5, None]
)
def test_sources_of_certificates(source: object) -> None:
    assert "must be core_api or a directory" in faults({}, tls={"certificates": source})


def test_the_default_is_a_hostname() -> None:
    assert settings_of({}, tls={"default": "WWW.Example.org."}).tls.default == "www.example.org"
    for name in ("", "192.0.2.7", "*.example.org", "a b", 7):
        assert "must be a hostname" in faults({}, tls={"default": name})


def test_redirects() -> None:
    found = [
        settings_of({"redirect_to_https": value}).listeners[0].redirect_to_https for value in (True, False, 8443)
    ]
    assert found == [443, 0, 8443]
    assert settings_of({}).listeners[0].redirect_to_https == 0
    for value in (0, 65536, -1, "443", None, 1.5):
        assert "must be true, false or a port" in faults({"redirect_to_https": value})
    assert "is for a listener without tls" in faults({"tls": True, "redirect_to_https": True})


def test_certificates_of_clients() -> None:
    [asked] = settings_of({"tls": True, "client_ca": "/ca.pem"}).listeners
    assert asked.verification == ("/ca.pem", None, True)
    optional = {"client_ca": "/ca.pem", "client_crl": "/crl.pem", "verify_client": "optional"}
    [asked] = settings_of({"tls": True, **optional}).listeners
    assert asked.verification == ("/ca.pem", "/crl.pem", False)
    assert settings_of({"tls": True}).listeners[0].verification is None
    assert "client_crl needs client_ca" in faults({"tls": True, "client_crl": "/crl.pem"})
    assert "client_ca is for a listener with tls: true" in faults({"client_ca": "/ca.pem"})
    assert "verify_client needs client_ca" in faults({"tls": True, "verify_client": "optional"})
    assert "'required' or 'optional'" in faults({"tls": True, "client_ca": "/ca.pem", "verify_client": "off"})


def test_a_certificate_needs_its_key() -> None:
    for section in ({"core_api": {"tls": {"key": "/k"}}}, {"backends": {"tls": {"certificate": "/c"}}}):
        assert "as well" in faults({}, **section)


@pytest.mark.parametrize(
    "name", ["", "containers.internal", "{id", "{ID}.internal", "{id} .internal", "{id}.7", "{id}{id}"]
)
def test_names_of_backends(name: str) -> None:
    assert "must be a hostname with {id} in it" in faults({}, backends={"tls": {"name": name}})


def test_the_whole_as_text() -> None:
    text = """
listeners: [{address: ":443", tls: true}, {address: ":80", redirect_to_https: true}]
core_api: {url: "https://core.test", tls: {ca: /ca, certificate: /c, key: /k}}
backends: {tls: {ca: /ca, certificate: /c, key: /k, name: "b-{id}.internal"}}
tls: {default: www.example.org, profile: modern, tickets: {rotate: 1h}}
timeouts: {handshake: 5s}
limits: {handshakes: 10, handshakes_per_client: 0.5}
"""
    settings = parse(text, name="styx.yaml", environ={})
    assert settings.backends.tls.name == "b-{id}.internal"
    assert settings.tls.tickets.rotate == 3600.0
    assert (settings.timeouts.handshake, settings.limits.handshakes) == (5.0, 10)
    with pytest.raises(SettingsError, match=r"tls.tickets.rotat: unknown setting; did you mean rotate"):
        parse(text.replace("rotate: 1h", "rotat: 1h"), name="styx.yaml", environ={})


ACME = {"directory_url": "https://ca.test/dir", "accept_terms": True}
PLAIN, TLS = {"address": "127.0.0.1:80"}, {"address": "127.0.0.1:443", "tls": True}


def acme_settings(*listeners: dict[str, Any], certificates: str = "file:/c", **acme: Any) -> Settings:
    tls = {"certificates": certificates, "acme": {**ACME, **acme}}
    core_api = {"url": "http://127.0.0.1:9900"}
    return Settings.model_validate({"listeners": listeners, "core_api": core_api, "tls": tls})


def test_acme_is_off_unless_an_authority_is_named() -> None:
    assert not settings_of({}).tls.acme.is_on
    assert acme_settings(PLAIN, TLS).tls.acme.is_on
    assert acme_settings(PLAIN, TLS, contact=("ops@example.org",), eab_key_id="1", eab_key_file="/k").tls.acme.is_on


@pytest.mark.parametrize(
    ("listeners", "changed", "words"),
    [
        ((PLAIN, TLS), {"accept_terms": False}, "accept_terms must be true"),
        ((PLAIN, TLS), {"certificates": "core_api"}, "certificates must be file:/DIRECTORY"),
        ((PLAIN,), {}, "no listener has tls: true"),
        ((TLS,), {}, "port 80, without TLS"),
        ((PLAIN, TLS), {"directory_url": "http://ca.test/dir"}, "must be null or an https address"),
        ((PLAIN, TLS), {"contact": ("mailto:ops@example.org",)}, "must be an email address"),
        ((PLAIN, TLS), {"eab_key_id": "1"}, "needs eab_key_file as well"),
        ((PLAIN, TLS), {"eab_key_file": "/k"}, "needs eab_key_id as well"),
        ((PLAIN, TLS), {"orders_per_hour": 0}, "greater than or equal to 1"),
    ],
)
def test_what_acme_needs(listeners: tuple[dict[str, Any], ...], changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        acme_settings(*listeners, **changed)
