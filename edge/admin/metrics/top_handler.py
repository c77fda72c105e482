"""`GET /v1/top`: the environments with the most requests, the most failures, and the slowest of the busiest."""

import msgspec
from aiohttp import web

from edge.admin.control_api import ControlApi
from edge.admin.metrics.merged_top import merged_top
from edge.rules.traffic.top_sites import MOST_REPORTED


async def top_sites(control_api: ControlApi, request: web.Request) -> web.Response:
    """Ask all workers, and merge what they report. Raises HTTPUnprocessableEntity for a wrong `limit`."""
    limit = request.query.get("limit", "20")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= MOST_REPORTED):
        raise web.HTTPUnprocessableEntity(reason=f"limit is a number from 1 to {MOST_REPORTED}.")
    found = merged_top(await control_api.top(), int(limit))
    return web.Response(body=msgspec.json.encode(found), content_type="application/json")
