"""Responses of the admin server: JSON, problem details, and the rendering of errors."""

from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from edge.admin.admin_messages import Problem

PLAIN_HEADERS = {hdrs.CACHE_CONTROL: "no-store", "X-Content-Type-Options": "nosniff"}

log = structlog.get_logger("styx.admin")


def problem(status: int, detail: str, *, socket: str = "", **headers: str) -> web.Response:
    """An error as JSON. Header names are given with underscores."""
    body = Problem("about:blank", HTTPStatus(status).phrase, status, detail, socket)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/problem+json", headers=named
    )


def json_response(value: Any, status: int = 200) -> web.Response:
    """This record as JSON."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", status=status)


@web.middleware
async def render_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Render errors as problem details, and add the headers that every response has."""
    response: web.StreamResponse
    try:
        response = await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        response = problem(405, f"{request.path} knows {allowed} only.", Allow=allowed)
    except web.HTTPException as error:
        missing = f"There is nothing at {request.path}."
        response = problem(error.status, missing if error.status == 404 else error.reason)
    except msgspec.ValidationError as error:
        response = problem(422, f"The body is not what {request.path} takes: {error}")
    except msgspec.DecodeError as error:
        response = problem(400, f"The body is no JSON: {error}")
    except Exception:
        log.exception("admin request failed", code="admin_request_failed", path=request.path)
        response = problem(500, "The admin server failed; its log says why.")
    if not response.prepared:
        for name, value in PLAIN_HEADERS.items():
            response.headers.setdefault(name, value)
    return response
