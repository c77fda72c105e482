"""The OpenAPI description of the admin API (version 3.1), made from the records that it encodes and decodes.

Every response with an error is a `Problem` (RFC 9457). Responses that come from the workers are lists of replies;
the description says what their `content` is.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from edge import __version__
from edge.admin.admin_messages import (
    CommandResult,
    Configuration,
    DrainRequest,
    Explanation,
    LogLevelRequest,
    LogLevels,
    OperatorDrain,
    Overview,
    Problem,
    ProcessLogLevel,
    RunningVersion,
    Scope,
    WorkerReplies,
)
from edge.admin.status_page.status_records import Rights, Snapshot
from edge.rules.explain_records import ExplainedRoute, RoutePage
from edge.rules.limits.client_records import ClientList
from edge.rules.traffic.top_records import Top

JSON: Final = "application/json"
_REFERENCE: Final = "#/components/schemas/{name}"


class Operation(NamedTuple):
    """One operation of the admin API."""

    method: str
    path: str
    summary: str
    response: Any
    "The record in the body of its response; str = text."
    content: Any = None
    "What each worker's `content` is, if the response has replies of workers."
    body: Any = None
    "The record in the body of the request."
    query: Mapping[str, type] = {}
    media: str = JSON


OPERATIONS: Final = (
    Operation("get", "/livez", "Is the process alive?", str, media="text/plain"),
    Operation("get", "/readyz", "Should it get requests?", str, media="text/plain"),
    Operation("get", "/metrics", "All metrics, for Prometheus.", str, media="text/plain"),
    Operation("get", "/v1/", "The addresses of the admin API.", str, media="text/plain"),
    Operation("get", "/v1/openapi.json", "This description.", dict[str, Any]),
    Operation("get", "/v1/version", "Version of styx and of Python, and whether styx is compiled.", RunningVersion),
    Operation(
        "get", "/v1/overview", "Version, readiness, counters of each worker.", Overview, dict[str, float | bool]
    ),
    Operation("get", "/v1/status", "What the status page shows.", Snapshot),
    Operation("get", "/v1/status/stream", "The same each second.", str, media="text/event-stream"),
    Operation("get", "/v1/rights", "May this caller change something?", Rights),
    Operation(
        "get",
        "/v1/routes",
        "Cached routes of each worker, page by page.",
        WorkerReplies,
        RoutePage,
        query={"from": int, "limit": int, "site": str, "freshness": str},
    ),
    Operation(
        "get",
        "/v1/routes/{host}/explain",
        "What each worker knows of a hostname, a URL or host:port.",
        Explanation,
        ExplainedRoute | None,
    ),
    Operation(
        "get",
        "/v1/top",
        "Environments with most requests, most failures, and the slowest of the busiest.",
        Top,
        query={"limit": int},
    ),
    Operation("get", "/v1/drains", "The current drains.", list[OperatorDrain]),
    Operation("post", "/v1/drains", "Begin or end a drain.", WorkerReplies, int, DrainRequest),
    Operation("post", "/v1/invalidate", "Look routes up again.", WorkerReplies, int, Scope),
    Operation("get", "/v1/config", "The settings in force, and where each comes from.", Configuration),
    Operation("get", "/v1/clients", "The clients that take up most of each worker.", WorkerReplies, ClientList),
    Operation("get", "/v1/log-level", "The level of the event log.", LogLevels, ProcessLogLevel),
    Operation(
        "post",
        "/v1/log-level",
        "Override the level of the event log for some time.",
        LogLevels,
        ProcessLogLevel,
        LogLevelRequest,
    ),
    Operation("post", "/v1/reload", "Read the configuration again.", CommandResult),
    Operation("post", "/v1/upgrade", "Let the installed version take over.", CommandResult),
)


def description() -> dict[str, Any]:
    """The OpenAPI document, as JSON can hold it."""
    kinds = [kind for operation in OPERATIONS for kind in (operation.response, operation.content, operation.body)]
    named = [kind for kind in (*kinds, Problem) if kind not in (None, str)]
    schemas, components = msgspec.json.schema_components(named, ref_template=_REFERENCE)
    schema_of = {repr(kind): schema for kind, schema in zip(named, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "styx admin API", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation, schema_of: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    schema = {"type": "string"} if operation.response is str else schema_of[repr(operation.response)]
    if operation.content is not None:
        schema = _with_content(schema, schema_of[repr(operation.content)])
    described: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {
            "200": {"description": "Done.", "content": {operation.media: {"schema": schema}}},
            "default": {
                "description": "An error.",
                "content": {"application/problem+json": {"schema": schema_of[repr(Problem)]}},
            },
        },
        "security": [{}, {"token": []}] if operation.method == "get" else [{"token": []}],
    }
    if parameters := _parameters(operation):
        described["parameters"] = parameters
    if operation.body is not None:
        body = {"schema": schema_of[repr(operation.body)]}
        described["requestBody"] = {"required": True, "content": {JSON: body}}
    return described


def _with_content(schema: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """The schema of a response with the replies of workers, which says what their content is; null = it failed."""
    reply = {"properties": {"content": {"anyOf": [content, {"type": "null"}]}}}
    return {"allOf": [schema, {"properties": {"workers": {"items": reply}}}]}


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "query", "schema": {"type": "integer" if kind is int else "string"}}
        for name, kind in operation.query.items()
    ]
    if "{host}" in operation.path:
        found.append({"name": "host", "in": "path", "required": True, "schema": {"type": "string"}})
    return found
