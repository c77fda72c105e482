"""The OpenAPI description of the core API is valid, and agrees with what the client of styx accepts."""

import json
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from edge.rules.certificates.certificate_records import CertificateResponse, ChainAndKey
from edge.rules.routing.change_records import ChangeData
from edge.rules.routing.invalidation import EVERYTHING, change_in
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.route_validation import ROLES, STATES, BackendPolicy, InvalidResponse, checked
from edge.run.core_api_check.core_api_description import core_api_description

HOSTNAME = "live-acme.example.org"
DESCRIPTION = yaml.safe_load(core_api_description())
SCHEMAS = DESCRIPTION["components"]["schemas"]
BACKEND = {"id": "b7c1", "address": "10.4.7.12", "port": 26607, "server": "srv-192", "role": "active"}
ROUTE = {"hostname": HOSTNAME, "site": "acme", "environment": "live", "generation": 7, "backends": [BACKEND]}


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": DESCRIPTION["components"]})


def is_accepted(document: Any) -> bool:
    """Whether the client of styx uses all of it, without a remark."""
    try:
        response = msgspec.json.decode(json.dumps(document), type=RouteResponse)
        _, remarks = checked(response, HOSTNAME, BackendPolicy(tls_names="{id}.containers.internal"))
    except (msgspec.MsgspecError, InvalidResponse):
        return False
    return not remarks


def test_it_is_valid_openapi() -> None:
    validate(DESCRIPTION)
    assert DESCRIPTION["openapi"].startswith("3.1")
    assert list(DESCRIPTION["paths"]) == ["/v1/routes/{hostname}", "/v1/changes", "/v1/certificates/{hostname}"]


@pytest.mark.parametrize(
    ("schema", "record"),
    [
        (SCHEMAS["Route"], RouteResponse),
        (SCHEMAS["Backend"], Backend),
        (SCHEMAS["Certificates"], CertificateResponse),
        (SCHEMAS["Certificates"]["properties"]["certificates"]["items"], ChainAndKey),
    ],
    ids=["Route", "Backend", "Certificates", "ChainAndKey"],
)
def test_it_has_the_members_of_the_records(schema: dict[str, Any], record: type[msgspec.Struct]) -> None:
    fields = msgspec.structs.fields(record)
    assert list(schema["properties"]) == [field.name for field in fields]
    assert schema["required"] == [field.name for field in fields if field.required]
    for field in fields:
        if not field.required:
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            assert schema["properties"][field.name]["default"] == default, field.name


def test_it_has_the_words_of_the_client() -> None:
    properties = SCHEMAS["Backend"]["properties"]
    assert set(properties["role"]["enum"]) == ROLES
    assert set(properties["state"]["enum"]) == STATES
    changes = {name for shape in SCHEMAS["Change"]["oneOf"] for name in shape["required"]}
    members = {field.name for field in msgspec.structs.fields(ChangeData)}
    assert changes | {"environment"} == members | {"all"}


def test_its_examples_are_valid_and_accepted() -> None:
    content = DESCRIPTION["paths"]["/v1/routes/{hostname}"]["get"]["responses"]["200"]["content"]
    example = content["application/json"]["example"]
    validator("Route").validate(example)
    assert is_accepted(example)
    assert is_accepted(ROUTE)


GOOD: dict[str, list[Any]] = {
    "site": ["a", "x" * 255],
    "environment": ["live"],
    "generation": [-(2**63), 0, 2**63 - 1],
    "backends": [[]],
    "maintenance": [True, False],
    "redirect": [None, "https://example.org/x", "www.example.org"],
    "more": [1, None],
}
BAD: dict[str, list[Any]] = {
    "hostname": [7, None],
    "site": ["", "x" * 256, 5],
    "environment": ["", None],
    "generation": ["7", 1.5, 2**63, None],
    "backends": [None, {}, [1]],
    "maintenance": [0, "no", None],
    "redirect": [5, "x" * 2049],
}
GOOD_BACKEND: dict[str, list[Any]] = {
    "id": ["a", "x" * 60],
    "address": ["10.0.0.1", "fd00::7", "host.example.org"],
    "port": [1, 65535],
    "server": ["", "srv-1"],
    "role": ["active", "standby"],
    "state": ["running", "asleep", "draining"],
    "tls": [False, True],
    "more": [{}],
}
BAD_BACKEND: dict[str, list[Any]] = {
    "id": ["", "x" * 256, None, 5],
    "address": ["", None, 7],
    "port": [0, -1, 65536, "80", None],
    "server": [None, "x" * 256],
    "role": ["primary", None],
    "state": ["up", None],
    "tls": [None, "yes"],
}


def changed(
    good: dict[str, list[Any]], bad: dict[str, list[Any]]
) -> st.SearchStrategy[tuple[dict[str, Any], bool]]:
    """Some members of legal values; or the same with one of an illegal value."""
    legal = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in good.items()})
    illegal = st.sampled_from([(name, value) for name, values in bad.items() for value in values])
    return st.one_of(
        legal.map(lambda members: (members, True)),
        st.tuples(legal, illegal).map(lambda both: ({**both[0], both[1][0]: both[1][1]}, False)),
    )


@given(changed(GOOD, BAD), changed(GOOD_BACKEND, BAD_BACKEND))
def test_schema_and_client_agree(route: tuple[dict[str, Any], bool], backend: tuple[dict[str, Any], bool]) -> None:
    document = {**ROUTE, "backends": [{**BACKEND, **backend[0]}], **route[0]}
    has_backend = document["backends"] != []
    good = route[1] and (backend[1] or not has_backend)
    assert validator("Route").is_valid(document) == good
    assert is_accepted(document) == good


@pytest.mark.parametrize("missing", ["hostname", "site", "environment", "generation", "backends"])
def test_what_is_required(missing: str) -> None:
    document = {name: value for name, value in ROUTE.items() if name != missing}
    assert not validator("Route").is_valid(document)
    assert not is_accepted(document)


def test_a_unix_socket_has_no_port() -> None:
    for port, good in ((None, True), (0, True), (80, False)):
        backend = {"id": "a", "address": "unix:/run/a.sock"} | ({} if port is None else {"port": port})
        document = {**ROUTE, "backends": [backend]}
        assert validator("Route").is_valid(document) is good
        assert is_accepted(document) is good
    document = {**ROUTE, "backends": [{"id": "a", "address": "10.0.0.1"}]}
    assert not validator("Route").is_valid(document)
    assert not is_accepted(document)


NAMES: dict[str, Any] = {"hostname": "a.example", "site": "acme", "server": "srv-1", "certificate": "*.example.org"}


@pytest.mark.parametrize(
    "change", [{name: value} for name, value in NAMES.items()] + [{"site": "acme", "environment": "live"}]
)
def test_changes_of_the_schema_are_understood(change: dict[str, str]) -> None:
    assert validator("Change").is_valid(change)
    assert change_in(json.dumps(change).encode()) != EVERYTHING


@pytest.mark.parametrize("change", [{}, {"host": "a"}, {"environment": "live"}, {"hostname": 5}, [], "a"])
def test_other_changes_are_not_understood(change: Any) -> None:
    assert not validator("Change").is_valid(change)
    assert change_in(json.dumps(change).encode()) == EVERYTHING
