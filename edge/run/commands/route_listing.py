"""The output of `styx routes`: the routes of each worker, as text or as JSON."""

from collections.abc import Sequence

import msgspec

from edge.admin.explain_text import render_routes
from edge.rules.explain_records import ListedRoute


def listing(found: Sequence[tuple[int, int, list[ListedRoute]]], as_json: bool) -> str:
    """These routes. Each: the number of a worker, its process, and its routes."""
    if as_json:
        workers = [{"worker": worker, "pid": pid, "content": {"routes": routes}} for worker, pid, routes in found]
        return msgspec.json.encode({"workers": workers}).decode()
    parts = []
    for worker, pid, routes in found:
        heading = f"worker {worker}, process {pid}:\n" if len(found) > 1 else ""
        parts.append(heading + (render_routes(routes) if routes else "no such routes\n"))
    return "\n".join(parts)
