"""Other proxies configured with the features of styx that they have too, and the backends that all of them share.

Each proxy routes by hostname, keeps connections to its backends, balances by least requests, adds the same
forwarding fields to requests and the same fields to responses, and writes one line per request to an access log.
Lookups of routes, demerits and the refusal ladder are features of styx alone. Envoy and Caddy are in
`bench/lab/optional_peers.py`.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.lab.programs import program
from bench.lab.servers import Server, free_ports, serving

HOST = "live-bench.localhost"
TINY_PATH, TINY_BODY = "/tiny", b"ok\n"
LARGE_PATH, LARGE_BODY = "/large", bytes(range(256)) * 256
HUGE_PATH, HUGE_BODY = "/huge", bytes(range(256)) * 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class ProxySetup:
    """What a proxy is configured for; all proxies of one measurement have the same."""

    hosts: Sequence[str] = (HOST,)
    "Hostnames that are routed to the backends."
    access_log: bool = True
    workers: int = 1
    "Processes of nginx and styx, threads of the others."
    core: int | None = None
    "The core that all of them run on; None = any."
    tls: Path | None = None
    "File with a certificate and its key, for nginx and HAProxy; None = plain HTTP."


NGINX_TOP = """\
daemon off;
{user}worker_processes {workers};
pid {dir}/{name}.pid;
error_log {dir}/{name}.errors warn;
events {{ worker_connections 16384; }}
http {{
    client_body_temp_path {dir}/{name}-body;
    proxy_temp_path {dir}/{name}-proxy;
    fastcgi_temp_path {dir}/{name}-fastcgi;
    uwsgi_temp_path {dir}/{name}-uwsgi;
    scgi_temp_path {dir}/{name}-scgi;
    keepalive_requests 1000000000;
    default_type text/plain;
    server_tokens off;
"""

BACKENDS_CONF = (
    NGINX_TOP
    + """\
    access_log off;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=10;
{servers}
}}
"""
)

BACKEND_SERVER = """\
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {dir};
        add_header X-Container {id};
        location = /tiny {{ return 200 "ok\\n"; }}
        location /page/ {{ return 200 "ok\\n"; }}
    }}
"""

# The buffers are nginx's defaults, as it is installed. With `proxy_buffers 16 8k`, which hold a whole response of
# 64 KiB, it needs about a third less CPU for the large body.
NGINX_CONF = (
    NGINX_TOP
    + """\
    log_format line escape=json '{{"time":$msec,"id":"$request_id","client":"$remote_addr",'
        '"method":"$request_method","host":"$host","target":"$request_uri","status":$status,"bytes_in":$request_length,'
        '"bytes_out":$body_bytes_sent,"backend":"$upstream_addr","connect":"$upstream_connect_time",'
        '"first_byte":"$upstream_header_time","total":$request_time}}';
    {access_log}
    server_names_hash_max_size 65536;
    client_max_body_size 0;
    proxy_request_buffering off;
    upstream site {{
        least_conn;
{servers}
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port}{ssl} backlog=4096;
        {certificate}
        server_name {hosts};
        location / {{
            proxy_pass http://site;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_set_header X-Forwarded-Host $host;
            proxy_set_header X-Request-Id $request_id;
            proxy_set_header Via "1.1 nginx";
            proxy_set_header X-Styx-Attempt 1;
            add_header X-Request-Id $request_id always;
            add_header X-Styx-Edge bench always;
            add_header X-Styx-Backend $upstream_addr always;
        }}
    }}
}}
"""
)

HAPROXY_TOP = """\
global
    nbthread 1
    maxconn {maxconn}
defaults
    mode http
    timeout connect 1s
    timeout client 75s
    timeout server 60s
"""

HAPROXY_CONF = """\
global
    nbthread {workers}
    maxconn 8000
    {log_target}
defaults
    mode http
    {log_options}
    timeout connect 1s
    timeout client 75s
    timeout server 60s
    unique-id-format %[uuid()]
frontend edge
    bind 127.0.0.1:{port} backlog 4096{ssl}
    unique-id-header X-Request-Id
    option forwardfor
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Port %[dst_port]
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header Via "1.1 haproxy"
    http-request set-header X-Styx-Attempt 1
    use_backend %[req.hdr(host),host_only,lower,map({dir}/haproxy.map,unknown)]
backend site
    balance leastconn
    http-reuse always
    option redispatch 1
    http-response set-header X-Request-Id %[unique-id]
    http-response set-header X-Styx-Edge bench
    http-response set-header X-Styx-Backend %[srv_name]
{servers}
"""


@asynccontextmanager
async def backends(directory: Path, count: int = 3) -> AsyncIterator[list[int]]:
    """One nginx worker on `count` ports: /tiny and /page/... from memory, /large and /huge from files."""
    ports = free_ports(count)
    (directory / LARGE_PATH.lstrip("/")).write_bytes(LARGE_BODY)
    (directory / HUGE_PATH.lstrip("/")).write_bytes(HUGE_BODY)
    blocks = [BACKEND_SERVER.format(port=port, dir=directory, id=f"b{n}") for n, port in enumerate(ports, 1)]
    conf = BACKENDS_CONF.format(**nginx_names("backends", directory), servers="".join(blocks))
    command = nginx_command(conf, directory, "backends")
    async with serving("backends", command, directory=directory, port=ports[0]):
        yield ports


@asynccontextmanager
async def nginx(directory: Path, backend_ports: Sequence[int], setup: ProxySetup) -> AsyncIterator[Server]:
    """nginx until the end of the block. Raises BenchFailed."""
    (port,) = free_ports(1)
    log = f"access_log {directory}/nginx.log line buffer=64k flush=1s;" if setup.access_log else "access_log off;"
    conf = NGINX_CONF.format(
        **nginx_names("nginx", directory, workers=setup.workers),
        port=port,
        hosts=" ".join(setup.hosts),
        access_log=log,
        ssl="" if setup.tls is None else " ssl",
        # (The nginx of Debian 12 does not speak TLS 1.3 unless it is told to.)
        certificate=""
        if setup.tls is None
        else f"ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {setup.tls}; ssl_certificate_key {setup.tls};",
        servers="\n".join(f"        server 127.0.0.1:{backend};" for backend in backend_ports),
    )
    command = nginx_command(conf, directory)
    async with serving("nginx", command, directory=directory, port=port, core=setup.core) as server:
        yield server


@asynccontextmanager
async def haproxy(directory: Path, backend_ports: Sequence[int], setup: ProxySetup) -> AsyncIterator[Server]:
    """HAProxy until the end of the block; its access log is its standard output, a file. Raises BenchFailed."""
    (port,) = free_ports(1)
    servers = "\n".join(f"    server b{n} 127.0.0.1:{backend}" for n, backend in enumerate(backend_ports, 1))
    (directory / "haproxy.map").write_text("".join(f"{host} site\n" for host in setup.hosts))
    conf = HAPROXY_CONF.format(
        port=port,
        dir=directory,
        servers=servers,
        ssl="" if setup.tls is None else f" ssl crt {setup.tls} alpn http/1.1",
        workers=setup.workers,
        log_target="log stdout format raw local0" if setup.access_log else "",
        log_options="log global\n    option httplog" if setup.access_log else "",
    )
    command = haproxy_command(conf, directory)
    async with serving("haproxy", command, directory=directory, port=port, core=setup.core) as server:
        yield replace(server, log=directory / "haproxy.out")


def nginx_command(conf: str, directory: Path, name: str = "nginx") -> list[str]:
    """Runs nginx with this configuration, which is written to a file of the directory. `name`: of its files."""
    path = directory / f"{name}.conf"
    path.write_text(conf)
    return [program("nginx"), "-e", str(directory / f"{name}.errors"), "-c", str(path)]


def haproxy_command(conf: str, directory: Path) -> list[str]:
    """What runs HAProxy with this configuration, which is written to a file of the directory."""
    path = directory / "haproxy.cfg"
    path.write_text(conf)
    return [program("haproxy"), "-db", "-f", str(path)]


def nginx_names(name: str, directory: Path, *, workers: int = 1) -> dict[str, object]:
    """Values for NGINX_TOP."""
    # The worker of a master that is root stays root: only root can read a temporary directory of root.
    user = "user root;\n" if os.geteuid() == 0 else ""
    return {"name": name, "dir": directory, "workers": workers, "user": user}
