"""Sets up tracing in one worker: OpenTelemetry is imported only when `traces.endpoint` is set."""

import asyncio
import os
import socket
from random import Random
from typing import Final

from edge.net.h1 import h1_connection
from edge.net.h2 import h2_stream
from edge.net.request.request_tracer import RequestTracer
from edge.net.secret_files import SecretFileError, read_secret
from edge.net.traced_exchange import TracedExchange
from edge.net.worker_context import WorkerContext
from edge.rules.settings import Settings

CLOSE_TIMEOUT: Final = 2.0
"Seconds in which a worker that ends sends the spans that wait."


class WorkerTraces:
    """The tracer of one worker, and the thread that sends its spans."""

    def __init__(self, settings: Settings, context: WorkerContext) -> None:
        self._settings = settings
        self._context = context

    def start(self) -> None:
        """Trace requests from now on, in this process. Raises OSError when the token cannot be read."""
        from edge.admin.traces.span_exporter import SpanLog

        settings = self._settings.traces
        try:
            token = read_secret(settings.token_file)
        except SecretFileError as error:
            raise OSError(0, f"traces.token_file: {error}") from error
        edge = self._settings.edge_name or socket.gethostname()
        resource = {"host.name": edge, "service.instance.id": f"{edge}-{os.getpid()}"}
        self._log = SpanLog(settings, resource, token)
        self._context.tracer = RequestTracer(settings, self._log, Random().getrandbits)
        h1_connection.checked = h2_stream.new_exchange = TracedExchange

    async def close(self) -> None:
        """Send what waits, for at most CLOSE_TIMEOUT."""
        await asyncio.to_thread(self._log.close, CLOSE_TIMEOUT)
