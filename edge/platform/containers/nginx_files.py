"""The files of one nginx container: nginx.conf, php-fpm.conf and the PHP program of its site.

Only nginx can send a refusal. `limit_conn` counts the requests in nginx and is the only small queue: the backlog of
php-fpm is larger, because a full one looks like a crash (502). The 503 of `limit_conn` goes through `error_page` to
a named location that no client can request, and only there X-Styx-Refused is added. Responses of PHP pass
unchanged, except that an X-Styx-Refused forged by PHP is removed.
"""

import os
from pathlib import Path

from edge.platform.containers.container import ContainerSpec

READY_PATH = "/.styx/ready"
"php-fpm itself responds at this path, through nginx: a 200 shows that both are up."

NGINX_CONF = """\
daemon off;
{user}worker_processes 1;
pid {dir}/nginx-{port}.pid;
error_log {dir}/nginx.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    server_tokens off;
    default_type text/plain;
    types {{ text/html html; text/css css; text/javascript js; image/png png; image/svg+xml svg; }}
    client_body_temp_path {dir}/tmp/body;
    fastcgi_temp_path {dir}/tmp/fastcgi;
    proxy_temp_path {dir}/tmp/proxy;
    uwsgi_temp_path {dir}/tmp/uwsgi;
    scgi_temp_path {dir}/tmp/scgi;
    client_max_body_size 1g;
    keepalive_timeout 75s;
    keepalive_requests 100000;
    limit_conn_zone $server_port zone=requests:64k;
    limit_conn_status 503;
    map $http_x_styx_backend $not_me {{ default 1; "" 0; "{id}" 0; }}
    server {{
        listen {listen}{ssl} backlog=1024;
{tls}        root {docroot};
        add_header X-Container {id} always;
        add_header X-Container-Attempt $http_x_styx_attempt always;
        error_page 503 = @full;
        if ($not_me) {{ return 421 "This is {id}, not $http_x_styx_backend.\\n"; }}

        location / {{
            if (-f {dir}/full) {{ return 503; }}
            limit_conn requests {limit};
            try_files $uri /index.php$is_args$args;
        }}
        location ~ \\.php$ {{
            if (-f {dir}/full) {{ return 503; }}
            limit_conn requests {limit};
            try_files $fastcgi_script_name =404;
{fastcgi}
        }}
        location = {ready} {{
            allow 127.0.0.1;
            allow ::1;
            deny all;
{fastcgi}
        }}
        location @full {{
            add_header X-Container {id} always;
            add_header X-Styx-Refused queue-full always;
            return 503 "The queue is full.\\n";
        }}
    }}
}}
"""

TLS = """\
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_client_certificate {client_ca};
        ssl_verify_client on;
        ssl_session_cache shared:sessions:1m;
"""

FASTCGI = """\
            fastcgi_pass unix:{dir}/php.sock;
            fastcgi_hide_header X-Styx-Refused;
            fastcgi_read_timeout 600s;
            fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
            fastcgi_param SCRIPT_NAME $fastcgi_script_name;
            fastcgi_param DOCUMENT_ROOT $document_root;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param DOCUMENT_URI $document_uri;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param SERVER_PROTOCOL $server_protocol;
            fastcgi_param SERVER_NAME $host;
            fastcgi_param REMOTE_ADDR $remote_addr;
            fastcgi_param STYX_DIR {dir};
            fastcgi_param STYX_CONTAINER {id};
            fastcgi_param STYX_SITE {environment}-{site};
            fastcgi_param STYX_SERVICE_TIME {service_time};"""

FPM_CONF = """\
[global]
daemonize = no
pid = {dir}/php-fpm.pid
error_log = {dir}/php-fpm.log
process_control_timeout = 3s
[www]
{user}listen = {dir}/php.sock
listen.backlog = {backlog}
pm = static
pm.max_children = {workers}
ping.path = {ready}
clear_env = yes
php_admin_value[post_max_size] = 1g
php_admin_value[upload_max_filesize] = 1g
php_admin_value[memory_limit] = 256M
php_admin_value[auto_prepend_file] = {dir}/note.php
"""

# Runs before each program, also before those of a docroot of the user. It overwrites one small file, whose time is
# that of the last request.
NOTE_PHP = r"""<?php
file_put_contents($_SERVER['STYX_DIR'] . '/last_request', substr($_SERVER['REQUEST_METHOD'] . ' '
    . explode('?', $_SERVER['REQUEST_URI'])[0], 0, 60) . (isset($_SERVER['HTTP_USER_AGENT'])
    ? ' by ' . substr(explode(' ', $_SERVER['HTTP_USER_AGENT'])[0], 0, 60) : ''));
"""

# Without this PHP consumes form bodies before the program can count them. A docroot of the user needs them parsed.
RAW_BODIES = "php_admin_flag[enable_post_data_reading] = off\n"

INDEX_PHP = r"""<?php
// The sample site: /sleep/MS waits and sends OK, /status/NNN sends this status, GET a page, the rest counts bodies.
$id = $_SERVER['STYX_CONTAINER'];
$dir = $_SERVER['STYX_DIR'];
$path = explode('?', $_SERVER['REQUEST_URI'])[0];
$order = $_SERVER['HTTP_X_ORDER_ID'] ?? null;
if ($order !== null) {
    file_put_contents("$dir/orders.log", "$order\n", FILE_APPEND | LOCK_EX);
}
$slow = is_file("$dir/slow") ? (float) file_get_contents("$dir/slow") : 1.0;
usleep((int) (1e6 * $slow * (float) $_SERVER['STYX_SERVICE_TIME']));
if (preg_match('#^/sleep/(\d+)$#', $path, $found)) {
    usleep(1000 * (int) $found[1]);
    header('Content-Type: text/plain');
    echo "OK\n";
} elseif (preg_match('#^/status/(\d{3})$#', $path, $found)) {
    http_response_code((int) $found[1]);
    header('Content-Type: text/plain');
    echo "status $found[1]\n";
} elseif (!in_array($_SERVER['REQUEST_METHOD'], ['GET', 'HEAD', 'OPTIONS', 'TRACE'])) {
    $bytes = 0;
    $hash = hash_init('sha256');
    $body = fopen('php://input', 'rb');
    while (!feof($body)) {
        $piece = fread($body, 65536);
        $bytes += strlen($piece);
        hash_update($hash, $piece);
    }
    $receipt = ['container' => $id, 'bytes' => $bytes, 'sha256' => hash_final($hash), 'order_id' => $order];
    header('Content-Type: application/json');
    echo json_encode($receipt);
} else {
    $name = htmlspecialchars($_SERVER['STYX_SITE']);
    $pid = getmypid();
    echo "<!doctype html><title>$name</title><h1>$name</h1><p>Container <b>$id</b>, process $pid.</p>\n";
}
"""


def write_files(spec: ContainerSpec, directory: Path) -> None:
    """Write all files that do not depend on the port."""
    recipe = spec.recipe
    (directory / "tmp").mkdir(parents=True, exist_ok=True)
    user = "user = root\ngroup = root\n" if os.geteuid() == 0 else ""
    text = FPM_CONF.format(
        dir=directory,
        user=user,
        workers=recipe.workers,
        backlog=fpm_backlog(spec),
        ready=READY_PATH,
    )
    if recipe.docroot is None:
        text += RAW_BODIES
        (directory / "htdocs").mkdir(exist_ok=True)
        (directory / "htdocs" / "index.php").write_text(INDEX_PHP)
    (directory / "note.php").write_text(NOTE_PHP)
    (directory / "php-fpm.conf").write_text(text)


def fpm_backlog(spec: ContainerSpec) -> int:
    """Length of php-fpm's backlog: larger than the queue in nginx, so that it is never the one that is full."""
    return max(511, 2 * (spec.recipe.workers + spec.recipe.queue))


def write_nginx_conf(spec: ContainerSpec, directory: Path, port: int) -> Path:
    """Write the configuration for this port; each port has its own, because during a move two nginx run."""
    recipe = spec.recipe
    fastcgi = FASTCGI.format(
        dir=directory,
        id=spec.id,
        site=spec.site,
        environment=spec.environment,
        service_time=recipe.service_time,
    )
    address = f"[{spec.address}]" if ":" in spec.address else spec.address
    text = NGINX_CONF.format(
        dir=directory,
        user="user root;\n" if os.geteuid() == 0 else "",
        id=spec.id,
        port=port,
        listen=f"{address}:{port}",
        ssl="" if spec.tls is None else " ssl",
        tls="" if spec.tls is None else TLS.format(**spec.tls._asdict()),
        docroot=recipe.docroot or directory / "htdocs",
        limit=recipe.workers + recipe.queue,
        ready=READY_PATH,
        fastcgi=fastcgi,
    )
    path = directory / f"nginx-{port}.conf"
    path.write_text(text)
    return path
