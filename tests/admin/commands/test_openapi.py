"""The OpenAPI description says what the admin server does: its addresses, and what their responses look like."""

import json

import pytest
from jsonschema import Draft202012Validator

from edge.admin.admin_server import ADDRESSES
from edge.admin.commands.openapi import OPERATIONS, description

BODIES = {
    "/v1/drains": b'{"kind": "server", "name": "srv-1", "seconds": 60}',
    "/v1/log-level": b'{"level": "debug", "seconds": 600}',
    "/v1/invalidate": b'{"kind": "all"}',
}
JSON = [operation for operation in OPERATIONS if operation.media == "application/json"]


def validator(document, schema):
    return Draft202012Validator({**schema, "components": document["components"]})


def test_every_address_is_described_and_no_other(admin_routes):
    described = {(operation.method, operation.path) for operation in OPERATIONS}
    assert described == admin_routes
    assert {path for path, _ in ADDRESSES} - {"/"} <= {path for _, path in described}


@pytest.fixture
async def admin_routes(admin):
    routes = admin.server._runner.app.router.routes()
    found = {(route.method.lower(), route.resource.canonical) for route in routes if route.method != "HEAD"}
    return found - {("get", "/"), ("get", "/status/{name}")}


def test_its_schemas_are_valid():
    document = description()
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    json.dumps(document)


@pytest.mark.parametrize("operation", JSON, ids=lambda operation: f"{operation.method} {operation.path}")
async def test_responses_are_as_described(admin, operation):
    _, body = await admin.get("/v1/openapi.json")
    document = json.loads(body)
    described = document["paths"][operation.path][operation.method]
    path = operation.path.replace("{host}", "live-acme.example.org")
    if operation.path == "/v1/routes":
        path += "?limit=3"
    data = BODIES.get(operation.path, b"") if operation.method == "post" else None
    response, body = await admin.act(path, data, method=operation.method.upper())
    assert response.status == 200
    schema = described["responses"]["200"]["content"]["application/json"]["schema"]
    validator(document, schema).validate(json.loads(body))
    if data:
        accepted = described["requestBody"]["content"]["application/json"]["schema"]
        validator(document, accepted).validate(json.loads(data))


async def test_a_wrong_content_of_a_worker_is_not_as_described(admin):
    document = description()
    schema = document["paths"]["/v1/routes/{host}/explain"]["get"]["responses"]["200"]["content"][
        "application/json"
    ]
    _, body = await admin.get("/v1/routes/live-acme.example.org/explain")
    content = json.loads(body)
    content["workers"][0]["content"]["backends"] = "none"
    assert not validator(document, schema["schema"]).is_valid(content)


async def test_errors_are_as_described(admin):
    document = description()
    schema = {"$ref": "#/components/schemas/Problem"}
    for path, status in (("/v1/routes/other.test/explain", 404), ("/v1/routes?limit=0", 422)):
        response, body = await admin.get(path)
        assert response.status == status
        validator(document, schema).validate(json.loads(body))
