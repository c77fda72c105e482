"""Closed-loop load by wrk: as many requests as the connections can carry."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from bench.lab.programs import BenchFailed, end_of, program
from edge.platform.child_process import ChildProcess

MARK = "styx-bench "
"Begins the line that SCRIPT prints."
GRACE = 20.0
"Seconds beyond its duration after which wrk counts as stuck."

# A `response` function would make wrk itself the bottleneck.
SCRIPT = (
    """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n"""
    + MARK
    + """{"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,' ..
    '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect, e.read, e.write, e.status, e.timeout))
end
"""
)

TAKE_TURNS = """
request = function()
  n = n % #requests + 1
  return requests[n]
end
"""
"Sends `requests`, which are made before the load begins, in turn."

UNIQUE = """
local requests, n = {}, 0
init = function(args)
  for i = 1, 8192 do
    wrk.headers["Cookie"] = string.format("session=%032x; theme=dark", i * 7919)
    requests[i] = wrk.format()
  end
end
"""
# wrk does not tell `request` which connection it is for, so each session is a thread with one connection.
SESSIONS = """
local threads = 0
setup = function(thread)
  threads = threads + 1
  thread:set("session", threads)
end
local requests, n = {}, 0
local kinds = {
  {"document", "navigate", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"},
  {"style", "no-cors", "text/css,*/*;q=0.1"},
  {"script", "no-cors", "*/*"},
  {"image", "no-cors", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"},
  {"image", "no-cors", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"},
  {"font", "cors", "*/*"},
  {"empty", "cors", "application/json"},
  {"empty", "cors", "application/json"},
}
init = function(args)
  wrk.headers["Cookie"] = string.format("session=%032x; theme=dark", session * 7919)
  wrk.headers["User-Agent"] = wrk.headers["User-Agent"]:gsub("137%.", tostring(130 + session % 8) .. ".")
  for i, kind in ipairs(kinds) do
    wrk.headers["Sec-Fetch-Dest"], wrk.headers["Sec-Fetch-Mode"], wrk.headers["Accept"] = kind[1], kind[2], kind[3]
    requests[i] = wrk.format("GET", string.format("/page/%d/%d", session, i))
  end
end
"""
HOSTS = """
local requests, n = {}, 0
init = function(args)
  for host in io.lines("{file}") do
    wrk.headers["Host"] = host
    requests[#requests + 1] = wrk.format()
  end
end
"""
UPLOAD = """
wrk.method = "POST"
wrk.body = string.rep("styx", {size} / 4)
"""


class Heads(StrEnum):
    """How the heads of requests differ. styx caches what it parsed (edge/net/h1/head_reader.py)."""

    REPEATING = "repeating"
    "All are the same."
    SESSIONS = "sessions"
    "Each connection is a browser session: eight targets in turn, with the cookie of its own."
    UNIQUE = "unique"
    "Another cookie in each of thousands of requests."


class WrkResult(msgspec.Struct, frozen=True):
    """The summary that one run of wrk printed."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: dict[str, int]
    "Counts by kind; `status` counts responses of 400 and above."

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


class Wrk:
    """wrk with the header fields of one browser and a number of connections.

    `lua`: makes the requests, for `Heads.REPEATING`. `any_status`: responses of 400 and above are no errors.
    """

    def __init__(
        self,
        directory: Path,
        *,
        connections: int,
        headers: Mapping[str, str],
        lua: str = "",
        any_status: bool = False,
    ) -> None:
        self._any_status = any_status
        self._directory = directory
        self._log = directory / "wrk.out"
        self._connections = connections
        self._scripts = {
            Heads.REPEATING: SCRIPT + lua,
            Heads.SESSIONS: SCRIPT + SESSIONS + TAKE_TURNS,
            Heads.UNIQUE: SCRIPT + UNIQUE + TAKE_TURNS,
        }
        self._fields = [argument for name, value in headers.items() for argument in ("-H", f"{name}: {value}")]

    async def run(self, url: str, seconds: float, *, heads: Heads = Heads.REPEATING) -> WrkResult:
        """Load this URL. Raises BenchFailed when wrk fails, is stuck, or reports an error."""
        self._log.unlink(missing_ok=True)
        script = self._directory / f"{heads}.lua"
        script.write_text(self._scripts[heads])
        threads = self._connections if heads is Heads.SESSIONS else 1
        command = [program("wrk"), "-t", str(threads), "-c", str(self._connections), "--latency", *self._fields]
        command += ["-s", str(script), "-d", f"{max(1, round(seconds))}s", url]
        wrk = ChildProcess.spawn(command, log=self._log, env={"LC_ALL": "C"})
        await end_of(wrk, seconds + GRACE, lambda: f"wrk did not end: {url}")
        return self._result(url)

    def _result(self, url: str) -> WrkResult:
        printed = self._log.read_text(errors="replace")
        summary = next((line for line in printed.splitlines() if line.startswith(MARK)), None)
        if summary is None:
            raise BenchFailed(f"wrk failed on {url}:\n{printed}")
        result = msgspec.json.decode(summary.removeprefix(MARK), type=WrkResult)
        # The script counts statuses from 400 on, the summary of wrk itself those outside 200 to 399: check both.
        errors = {kind: n for kind, n in result.errors.items() if not (self._any_status and kind == "status")}
        if any(errors.values()) or ("Non-2xx" in printed and not self._any_status) or not result.requests:
            raise BenchFailed(f"wrk reported errors on {url}; its figures do not count:\n{printed}")
        return result


def host_per_request(hosts: Sequence[str], file: Path) -> str:
    """A script for `lua`: each request is for the next of these hosts. `file` is written, and read by wrk."""
    file.write_text("".join(f"{host}\n" for host in hosts))
    return HOSTS.replace("{file}", str(file)) + TAKE_TURNS


def uploading(size: int) -> str:
    """A script for `lua`: each request is a POST with a body of this many bytes, a multiple of 4."""
    return UPLOAD.replace("{size}", str(size))
