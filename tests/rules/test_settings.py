"""The settings classes: defaults, immutability, descriptions and contradictions."""

import pytest
from pydantic import ValidationError

from edge.rules.settings import (
    Address,
    AdminSettings,
    CoreApiSettings,
    DrainSettings,
    LimitSettings,
    ListenerSettings,
    PoolSettings,
    RetrySettings,
    RouteSettings,
    Section,
    Settings,
    TimeoutSettings,
)
from edge.rules.settings.schema.documentation import documentation_of
from edge.rules.settings.section import section_of

HERE = ListenerSettings(address=Address("127.0.0.1", 8080))
CORE = CoreApiSettings(url="http://127.0.0.1:9900")


def contradictions(error: ValidationError) -> list[str]:
    return [name for details in error.errors() for name, _ in details["ctx"]["faults"]]


def test_defaults() -> None:
    settings = Settings(listeners=(HERE,), core_api=CORE)
    assert settings.workers == 0  # auto
    assert settings.listeners[0].backlog == 4096
    assert settings.core_api.token_file is None
    assert settings.routes.stale_if_error == 86400
    assert settings.timeouts.deadline == 120
    assert settings.limits.field == 16384
    assert settings.limits.cookie == 32768
    assert settings.limits.body == 0
    assert settings.pool.idle_timeout == 30
    assert settings.demerits.refresh == 0.02
    assert settings.admin.address == Address("127.0.0.1", 9901)
    assert settings.forwarding.trusted == ()
    assert settings.access_log.buffer == 1 << 20


def test_settings_are_frozen_and_comparable() -> None:
    one, two = (Settings(listeners=(HERE,), core_api=CORE) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    with pytest.raises(ValidationError):
        one.workers = 1


def test_code_may_give_plain_seconds_and_bytes() -> None:
    assert TimeoutSettings(connect=0.05).connect == 0.05
    assert LimitSettings(head=40_000).head == 40_000


def test_every_setting_is_described_in_one_line() -> None:
    sections = [section_of(field.annotation) for field in Settings.model_fields.values()]
    for section in [Settings, *filter(None, sections)]:
        assert section.__doc__
        for name, field in section.model_fields.items():
            if section_of(field.annotation) is None:
                description = documentation_of(section)[name]
                assert "\n" not in description
                assert description.endswith((".", "?")), f"{section.__name__}.{name}"


def test_defaults_are_within_their_bounds() -> None:
    for field in Settings.model_fields.values():
        section = section_of(field.annotation)
        if section is not None and not field.is_required():
            values = {name: getattr(field.default, name) for name in section.model_fields}
            assert section.model_validate(values) == field.default


def test_section_of() -> None:
    assert section_of(PoolSettings) is PoolSettings
    assert section_of(tuple[ListenerSettings, ...]) is ListenerSettings
    assert section_of(str | None) is None
    assert issubclass(PoolSettings, Section)


COLD = "first_byte_cold"


@pytest.mark.parametrize(
    ("section", "values", "faults"),
    [
        (TimeoutSettings, {"connect": 6.0}, ["connect"]),
        (
            TimeoutSettings,
            {"connect": 6.0, "connect_total": 5.0, "deadline": 4.0},
            ["connect", "connect_total"],
        ),
        (TimeoutSettings, {"connect_alone": 6.0}, ["connect_alone"]),
        (TimeoutSettings, {"first_byte": 121.0}, ["first_byte"]),
        (TimeoutSettings, {"first_byte": 9.0, "first_byte_cold": 9.0, "deadline": 8.0}, ["first_byte", COLD]),
        (LimitSettings, {"head": 1024, "request_line": 8192, "field": 8192}, ["request_line", "field"]),
        (LimitSettings, {"cookie": 65 * 1024}, ["cookie"]),
        (LimitSettings, {"connections": 10, "connections_per_client": 11}, ["connections_per_client"]),
        (RouteSettings, {"ready": 100_001}, ["ready"]),
        (RouteSettings, {"per_environment": 100_001}, ["per_environment"]),
        (RouteSettings, {"stale_while_revalidate": 86_401.0}, ["stale_while_revalidate"]),
        (RouteSettings, {"stale_while_revalidate": 2.0, "stale_if_error": 1.0}, ["stale_while_revalidate"]),
        (RetrySettings, {"demerited": 6}, ["demerited"]),
        (RetrySettings, {"demerited": 2, "attempts": 1}, ["demerited"]),
        (DrainSettings, {"idle": 31.0}, ["idle"]),
        (PoolSettings, {"idle_timeout": 75.0}, ["idle_timeout"]),
        (PoolSettings, {"idle_total": 8, "idle_per_backend": 9}, ["idle_per_backend"]),
        (AdminSettings, {"address": Address("", 9901)}, ["address"]),
        (AdminSettings, {"address": Address("10.0.0.1", 9901)}, ["address"]),
    ],
)
def test_contradictions(section: type[Section], values: dict[str, object], faults: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        section.model_validate(values)
    assert contradictions(caught.value) == faults


@pytest.mark.parametrize("name", ["queue_timeout", "boot"])
def test_retries_may_not_take_longer_than_a_request(name: str) -> None:
    values: dict[str, object] = {"listeners": (HERE,), "core_api": CORE}
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({**values, "retries": {name: 9.0}, "timeouts": {"deadline": 8.0}})
    assert contradictions(caught.value) == [f"retries.{name}"]


@pytest.mark.parametrize(
    "lowered",
    [
        {"routes": {"capacity": 10}},
        {"routes": {"stale_if_error": 1.0}},
        {"timeouts": {"deadline": 0.1}},
        {"timeouts": {"connect_total": 0.1}},
        {"limits": {"head": 1024}},
        {"limits": {"connections": 1}},
        {"pool": {"idle_total": 1}},
        {"retries": {"attempts": 1}},
        {"drain": {"timeout": 0}},
    ],
)
def test_a_default_gives_way_to_a_bound_that_is_lowered(lowered: dict[str, object]) -> None:
    """Lowering a bound does not require setting all that is below it."""
    assert Settings.model_validate({"listeners": (HERE,), "core_api": CORE, **lowered})


def test_the_admin_api_may_be_public_with_a_token_and_private_without() -> None:
    assert AdminSettings(address=Address("", 9901), token_file="/run/token").token_file == "/run/token"
    assert AdminSettings(address=Address(path="/run/styx.sock")).token_file is None


def test_one_address_is_listened_on_once() -> None:
    there = ListenerSettings(address=Address(path="/x"))
    with pytest.raises(ValidationError) as caught:
        Settings(listeners=(HERE, there, HERE, there), core_api=CORE)
    assert contradictions(caught.value) == ["2.address", "3.address"]
    with pytest.raises(ValidationError) as caught:
        Settings(listeners=(HERE,), core_api=CORE, admin=AdminSettings(address=HERE.address))
    assert contradictions(caught.value) == ["admin.address"]


def test_any_free_port_may_be_asked_for_twice() -> None:
    free = ListenerSettings(address=Address("127.0.0.1", 0))
    settings = Settings(listeners=(free, free), core_api=CORE, admin=AdminSettings(address=free.address))
    assert settings.listeners == (free, free)


@pytest.mark.parametrize(
    ("listener", "forwarding", "faults"),
    [
        ({}, {}, ["listeners.1.proxy_protocol"]),
        ({"trusted": ()}, {"trusted": ("10.0.0.0/8",)}, ["listeners.1.proxy_protocol"]),
        ({"trusted": ("10.0.0.0/8",)}, {}, []),
        ({}, {"trusted": ("10.0.0.0/8",)}, []),
        ({"address": "unix:/run/styx.sock"}, {}, []),
        ({"proxy_protocol": False}, {}, []),
    ],
)
def test_a_proxy_header_needs_trusted_networks(
    listener: dict[str, object], forwarding: dict[str, object], faults: list[str]
) -> None:
    greeted = {"address": "127.0.0.1:8081", "proxy_protocol": True, **listener}
    values = {"listeners": (HERE, greeted), "core_api": CORE, "forwarding": forwarding}
    if not faults:
        assert Settings.model_validate(values).listeners[1].address
        return
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(values)
    assert contradictions(caught.value) == faults
