"""Builds the image with buildah, step by step as the Dockerfile says, and runs it as an orchestrator would.

    make image-check                  on a base that debootstrap makes: no registry of images is needed
    make image-check ARGS="--base docker.io/library/python:3.11-slim"
    make image-check ARGS="--build-arguments '--volume /etc/ssl/certs:/etc/ssl/certs:ro'"

It needs root, buildah, unshare (util-linux), ip (iproute2), for its own base debootstrap, and some
minutes: the package is compiled. Everything is kept below build/image/, and used again. The container has a
network of its own, in which there is nothing but loopback; a root that is read-only, and one tmpfs at /tmp; the
user by number, without capabilities.
"""

import argparse
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
WORK: Final = ROOT / "build" / "image"
STORAGE: Final = ("--root", str(WORK / "storage"), "--runroot", str(WORK / "run"), "--storage-driver", "vfs")
OWN_BASE: Final = "localhost/styx-base"
IMAGE: Final = "localhost/styx"
PACKAGES: Final = "ca-certificates,python3,python3-dev,python3-venv,python-is-python3"
"What `python:3.11-slim` has of its own."
PATH: Final = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
MOST_CPU: Final = 0.02
"Seconds of CPU of one health check."
LONGEST: Final = 60.0
"Seconds for a start or a drain, also on a busy machine."
SITE: Final = "www.example.com"
ROUTES: Final = """\
routes:
  - hostnames: [www.example.com]
    backends: [{address: "127.0.0.1:9001"}]
"""


class CheckFailed(Exception):
    """The image is not as it should be."""


class Image(NamedTuple):
    """A built image."""

    root: Path
    "Where its files are mounted."
    config: dict[str, Any]
    "Env, Entrypoint, Cmd, User, StopSignal ..., as in the image."
    base_bytes: int
    "Size of the base."


def buildah(*arguments: str) -> str:
    """Run buildah with storage of our own; returns its output."""
    ran = subprocess.run(["buildah", *STORAGE, *arguments], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return ran.stdout.strip()


def make_base() -> None:
    """Make the base from packages of Debian, unless it is there already."""
    if OWN_BASE in buildah("images", "--format", "{{.Name}}").split():
        return
    tree = WORK / "base"
    if not (tree / "usr/bin/python").exists():
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(tree)], check=True
        )
        subprocess.run(["chroot", str(tree), "apt-get", "clean"], check=True)
    container = buildah("from", "scratch")
    archive = WORK / "base.tar"
    subprocess.run(["tar", "-C", str(tree), "--one-file-system", "-cf", str(archive), "."], check=True)
    buildah("add", "--quiet", container, str(archive), "/")
    archive.unlink()
    buildah("config", "--env", f"PATH={PATH}", container)
    buildah("commit", "--quiet", "--rm", container, OWN_BASE)


def build(base: str, more: list[str]) -> Image:
    """Build the image on this base. `more`: further arguments of `buildah build`."""
    WORK.mkdir(parents=True, exist_ok=True)
    buildah("rm", "--all")  # what an earlier check has mounted
    if base == OWN_BASE:
        make_base()
    # The health check is no part of OCI's format.
    options = ["--format", "docker", "--isolation", "chroot", "--network", "host", "--build-arg", f"BASE={base}"]
    subprocess.run(["buildah", *STORAGE, "build", *options, *more, "--tag", IMAGE, "."], check=True, cwd=ROOT)
    roots = [Path(buildah("mount", buildah("from", "--pull-never", name))) for name in (IMAGE, base)]
    config = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
    return Image(roots[0], config, size_of(roots[1]))


def size_of(tree: Path) -> int:
    """Bytes of all files below a directory; one with several names counts once."""
    found = {}
    for folder, _, names in os.walk(tree):
        for name in names:
            entry = os.lstat(os.path.join(folder, name))
            found[entry.st_ino] = entry.st_size
    return sum(found.values())


def check_files(image: Image) -> None:
    """What is in the image, and what is not."""
    venv = image.root / "opt/styx"
    compiled = list(venv.glob("lib/python3*/site-packages/edge/**/*.so"))
    expect(len(compiled) > 50, f"{len(compiled)} compiled modules")
    bytecode = list(venv.glob("lib/python3*/site-packages/edge/**/*.pyc"))
    expect(len(bytecode) > len(compiled), "a start finds bytecode, which it could not write")
    ours = size_of(image.root) - image.base_bytes
    say(f"{ours / 1e6:.0f} MB on a base of {image.base_bytes / 1e6:.0f} MB, {len(compiled)} compiled modules")
    expect(not (venv / "bin/pip").exists(), "pip is not in the virtual environment")
    user, _, group = image.config["User"].partition(":")
    expect(user.isdigit() and int(user) > 0 and group.isdigit(), f"the user is a number: {user}:{group}")
    expect(bool(image.config.get("Healthcheck")), "the image has its health check")
    writable = [path for path in venv.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    expect(not writable, f"nothing that others may write: {writable[:3]}")


class SlowSite(BaseHTTPRequestHandler):
    """A site whose answer to `/slow` waits until `may_answer` is set."""

    arrived = threading.Event()
    may_answer = threading.Event()

    def do_GET(self) -> None:
        """Answer 200."""
        if self.path == "/slow":
            self.arrived.set()
            self.may_answer.wait(LONGEST)
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is logged."""


def inside(image: Image, *command: str, **environ: str) -> list[str]:
    """The command line that runs this in the container."""
    user, _, group = image.config["User"].partition(":")
    rights = ["--reuid", user, "--regid", group, "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
    variables = [*image.config["Env"], *(f"{name}={value}" for name, value in environ.items())]
    run = ["env", "-i", "--chdir", image.config.get("WorkingDir") or "/", *variables, *command]
    # setpriv is the image's own (Debian's util-linux): chroot needs a right that it takes away.
    return ["chroot", str(image.root), "setpriv", *rights, *run]


def mounted(root: Path) -> None:
    """Make the root read-only, with /proc, /dev and one tmpfs, in this mount namespace."""
    for command in (
        f"mount --make-rprivate / && mount --bind {root} {root} && mount -o remount,bind,ro {root}",
        f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev",
        f"mount -t tmpfs -o mode=1777,size=64m tmpfs {root}/tmp && ip link set lo up",
    ):
        subprocess.run(["sh", "-ec", command], check=True)
    (root / "tmp/routes.yaml").write_text(ROUTES)


@contextmanager
def container(image: Image, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """The image, running."""
    entry = [*image.config["Entrypoint"], *image.config["Cmd"]]
    with subprocess.Popen(inside(image, *entry, **environ), stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def response(port: int, path: str, host: str = SITE) -> tuple[HTTPResponse, bytes]:
    """The response to a GET, and its body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=LONGEST)
    connection.request("GET", path, headers={"Host": host})
    got = connection.getresponse()
    return got, got.read()


def ready(port: int) -> int:
    """The status of /readyz; 0 = nobody listens."""
    try:
        return response(port, "/readyz")[0].status
    except OSError:
        return 0


def wait_for_readiness(port: int, wanted: int) -> float:
    """Seconds until /readyz has this status."""
    begun = time.monotonic()
    while ready(port) != wanted:
        expect(time.monotonic() - begun < LONGEST, f"/readyz responds {wanted}", quiet=True)
        time.sleep(0.05)
    return time.monotonic() - begun


def check_health(image: Image) -> None:
    """The command of HEALTHCHECK says so, for little CPU."""
    _, *command = image.config["Healthcheck"]["Test"]
    spent = []
    for _ in range(9):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ran = subprocess.run(inside(image, *command), check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        expect(ran.returncode == 0, "the health check succeeds", quiet=True)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    expect(min(spent) < MOST_CPU, f"a health check takes {min(spent) * 1e3:.1f} ms of CPU, with chroot and setpriv")


def check_drain(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM: no longer ready, what is in flight ends well, exit code 0."""
    got = []
    asking = threading.Thread(target=lambda: got.append(response(8080, "/slow")))
    asking.start()
    expect(SlowSite.arrived.wait(LONGEST), "a request is in flight", quiet=True)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    wait_for_readiness(9901, 503)
    SlowSite.may_answer.set()
    asking.join(LONGEST)
    expect(bool(got) and got[0][1] == b"hello", "a request in flight is answered after SIGTERM")
    code = process.wait(LONGEST)
    expect(code == 0, f"exit code {code}, {time.monotonic() - begun:.1f} s after SIGTERM, with a delay of 1 s")


def check_running(image: Image) -> None:
    """Start it, ask it, stop it. In namespaces of its own."""
    mounted(image.root)
    refused = subprocess.run(inside(image, *image.config["Entrypoint"], "serve"), capture_output=True, check=False)
    expect(
        refused.returncode == 2 and b"STYX_CORE_API" in refused.stderr, "without a core API it says what is missing"
    )
    version = subprocess.run(
        inside(image, *image.config["Entrypoint"], "--version"), capture_output=True, check=True
    )
    expect(b"(compiled)" in version.stdout, version.stdout.decode().strip())
    server = ThreadingHTTPServer(("127.0.0.1", 9001), SlowSite)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environ = {"STYX_CORE_API": "file:/tmp/routes.yaml", "STYX_WORKERS": "2", "STYX_DRAIN_DELAY": "1s"}
    with container(image, **environ) as process:
        took = wait_for_readiness(9901, 200)
        say(f"ready after {took:.1f} s, as user {image.config['User']}, with a root that is read-only")
        expect(response(9901, "/livez")[0].status == 200, "/livez responds 200")
        expect(response(8080, "/")[1] == b"hello", "a site is served")
        unknown, _ = response(8080, "/", "other.example.com")
        expect(
            (unknown.status, unknown.getheader("X-Styx-Error")) == (404, "unknown_host"), "an unknown one gets 404"
        )
        check_health(image)
        check_drain(process)
    server.shutdown()


def say(words: str) -> None:
    """Tell whoever waits."""
    print(f"  {words}", flush=True)


def expect(is_so: bool, words: str, *, quiet: bool = False) -> None:
    """Raise CheckFailed unless it is so."""
    if not is_so:
        raise CheckFailed(words)
    if not quiet:
        say(words)


def main() -> None:
    """Build and check; exit 1 with what is wrong."""
    parser = argparse.ArgumentParser(description="Builds the image and runs it.")
    parser.add_argument("--base", default=OWN_BASE, help="the base, from a registry")
    parser.add_argument("--build-arguments", default="", help="more arguments of `buildah build`")
    parser.add_argument("--running", help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if options.running:
            root, config, base_bytes = json.loads(options.running)
            check_running(Image(Path(root), config, base_bytes))
            return
        image = build(options.base, shlex.split(options.build_arguments))
        check_files(image)
    except CheckFailed as error:
        sys.exit(f"not so: {error}")
    again = [
        sys.executable,
        "-m",
        "tests.support.image_check",
        "--running",
        json.dumps([str(image.root), *image[1:]]),
    ]
    sys.exit(subprocess.run(["unshare", "--mount", "--net", *again], check=False, cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
