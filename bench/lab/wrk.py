"""Closed-loop load by wrk: as many requests as the connections can carry."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec

from bench.lab.programs import BenchFailed, program
from edge.platform.child_process import ChildProcess

MARK = "styx-bench "
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

STRANGERS = """
local requests, n = {}, 0
init = function(args)
  for i = 1, 8192 do
    wrk.headers["Cookie"] = string.format("session=%032x; theme=dark", i * 7919)
    requests[i] = wrk.format()
  end
end
request = function()
  n = n % #requests + 1
  return requests[n]
end
"""
"Requests made beforehand, each with a cookie of its own, sent in turn."


class WrkResult(msgspec.Struct, frozen=True):
    """What one run of wrk saw."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: dict[str, int]
    "Kinds of trouble; `status` counts answers of 400 and above."

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class Wrk:
    """wrk with the headers of one browser, one thread, and a number of connections."""

    def __init__(
        self,
        directory: Path,
        *,
        connections: int,
        headers: Mapping[str, str],
        lua: str = "",
        any_status: bool = False,
    ) -> None:
        """`lua`: what makes the requests; `any_status`: answers of 400 and above are as good as others."""
        self._any_status = any_status
        self._log = directory / "wrk.out"
        self._same, self._strangers = directory / "same.lua", directory / "strangers.lua"
        self._same.write_text(SCRIPT + lua)
        self._strangers.write_text(SCRIPT + STRANGERS)
        self._command = [program("wrk"), "-t", "1", "-c", str(connections), "--latency"]
        for name, value in headers.items():
            self._command += ["-H", f"{name}: {value}"]

    async def run(self, url: str, seconds: float, *, strangers: bool = False) -> WrkResult:
        """`strangers`: no two requests in a row of thousands have the same head.

        Raises BenchFailed when wrk fails, is stuck, or saw anything but good answers.
        """
        self._log.unlink(missing_ok=True)
        script = self._strangers if strangers else self._same
        command = [*self._command, "-s", str(script), "-d", f"{max(1, round(seconds))}s", url]
        wrk = ChildProcess.spawn(command, log=self._log, env={"LC_ALL": "C"})
        try:
            async with asyncio.timeout(seconds + GRACE):
                await wrk.ended.wait()
        except TimeoutError:
            raise BenchFailed(f"wrk did not end: {url}") from None
        finally:
            wrk.kill()
            await wrk.ended.wait()
        return self._judged(url)

    def _judged(self, url: str) -> WrkResult:
        printed = self._log.read_text(errors="replace")
        told = next((line for line in printed.splitlines() if line.startswith(MARK)), None)
        if told is None:
            raise BenchFailed(f"wrk failed on {url}:\n{printed}")
        load = msgspec.json.decode(told.removeprefix(MARK), type=WrkResult)
        # wrk's script counts 400 and above, its own words every answer outside 200 to 399: look at both.
        errors = {kind: n for kind, n in load.errors.items() if not (self._any_status and kind == "status")}
        if any(errors.values()) or ("Non-2xx" in printed and not self._any_status) or not load.requests:
            raise BenchFailed(f"wrk saw errors on {url}: the figures are worth nothing\n{printed}")
        return load
