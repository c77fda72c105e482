"""Settings of traces (OpenTelemetry)."""

from typing import Literal

from pydantic import Field

from edge.rules.settings.section import Cold, Section
from edge.rules.settings.values import Count, FilePath, Ratio, ReceiverAddress, Token


class TraceSettings(Section):
    """Traces of requests, sent to an OpenTelemetry collector. Optional; off unless `endpoint` is set."""

    endpoint: Cold[ReceiverAddress] = None
    "URL of an OTLP/HTTP receiver, such as http://127.0.0.1:4318; /v1/traces is added. Needs `styx-edge[traces]`."
    token_file: Cold[FilePath] = None
    "File with the bearer token for the receiver, read when a worker starts; null = none is sent."
    sample: Cold[Ratio] = Field(default=0.01, ge=0, le=1)
    "Part of the traces beginning here that are recorded. Of others, whoever began them has decided."
    parent: Cold[Literal["trusted", "any", "none"]] = "trusted"
    "Whose traces (traceparent) are continued: those of trusted proxies, any client's, or none."
    queue: Cold[Count] = Field(default=2048, ge=64, le=1_000_000)
    "Spans of each worker that wait to be sent; beyond it, the oldest ones are dropped."
    service_name: Cold[Token] = "styx"
    "The service.name of the spans."
