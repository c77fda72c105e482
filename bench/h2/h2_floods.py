"""Floods of HTTP/2: how soon each is ended, with which reason, and what others feel of it."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from statistics import median

from bench.fuzz_h2 import frames as f
from bench.fuzz_h2.frames import Frame, encoded, frames_of, integer, literal_block
from bench.h2.h2_client import H2Wire, get
from bench.h2.h2_stage import HOST, goaways, open_loop, stage
from bench.lab.styx_under_test import StyxUnderTest
from bench.report import SceneFact

OTHERS, RATE = 8, 200.0
"Connections of others, and their requests per second."
EVERY = 0.2
"Seconds from the begin of one flood to that of the next."
RATIO_GOAL, ENDED_GOAL = 1.5, 1.0
LEAST_MS = 5.0
"p99 of others that is good anyway."
MANY = 1500
TIME_LIMIT = 10.0
"Seconds until a flood must have ended."
TOLD_WITHIN = 5.0
"Seconds that numbers of workers, which reach the admin process every second, are waited for."
GET = literal_block(get(HOST, "/hang"))


def _streams(make: Callable[[int], list[Frame]]) -> list[Frame]:
    return [frame for stream in range(1, 2 * MANY, 2) for frame in make(stream)]


def _head(stream: int, *, ended: bool = True, more: list[tuple[bytes, bytes]] | None = None) -> Frame:
    block = literal_block(get(HOST, "/hang", *(more or [])))
    return Frame(f.HEADERS, f.END_HEADERS | (f.END_STREAM if ended else 0), stream, block)


BOMB = GET + b"\x40\x01x" + integer(4000, 7) + b"y" * 4000 + b"\xbe" * 8000
FLOODS: dict[str, list[Frame]] = {
    "reset_flood": _streams(lambda stream: [_head(stream), Frame(f.RST_STREAM, 0, stream, bytes((0, 0, 0, 8)))]),
    "provoked_resets": _streams(
        lambda stream: [
            _head(stream, ended=False, more=[(b"content-length", b"1")]),
            Frame(f.DATA, 0, stream, b"abc"),
        ]
    ),
    "settings_flood": [Frame(f.SETTINGS, 0, 0, b"\0\4\0\0\xff\xff")] * MANY,
    "ping_flood": [Frame(f.PING, 0, 0, b"floodfld")] * MANY,
    "window_update_flood": [Frame(f.WINDOW_UPDATE, 0, 0, bytes((0, 0, 0, 1)))] * MANY,
    "continuation_flood": [Frame(f.HEADERS, 0, 1, GET), *[Frame(f.CONTINUATION, 0, 1)] * MANY],
    "empty_data_flood": [_head(1, ended=False), *[Frame(f.DATA, 0, 1)] * MANY],
    "header_list": [Frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, 1, BOMB)],
}
"By the reason that must be told."


async def floods(rounds: int, seconds: float, scenes: list[str] | None = None) -> list[SceneFact]:
    """Raises BenchFailed."""
    lines = []
    async with stage() as styx:
        others = [await H2Wire.open(styx.server.port) for _ in range(OTHERS)]
        await open_loop(others, RATE, seconds, 1)
        for reason in scenes or list(FLOODS):
            lines += await _flood(styx, others, reason, rounds, seconds)
    return lines


async def _flood(
    styx: StyxUnderTest, others: list[H2Wire], reason: str, rounds: int, seconds: float
) -> list[SceneFact]:
    ratios: list[float] = []
    p99s: list[float] = []
    ended: list[float] = []
    before = await goaways(styx)
    for number in range(rounds):
        calm, before_round = await open_loop(others, RATE, seconds, number), len(ended)
        attack = asyncio.create_task(_attack(styx.server.port, FLOODS[reason], ended))
        try:
            beside = await open_loop(others, RATE, seconds, number)
            await _one_more(ended, before_round)
        finally:
            attack.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await attack
        ratios.append(beside.p99_ms / calm.p99_ms)
        p99s.append(beside.p99_ms)
    told = await _told(styx, reason, before.get(reason, 0), len(ended))
    ratio, slowest = median(ratios), max(ended, default=float("inf"))
    return [
        SceneFact(
            reason,
            "p99 of others",
            f"{median(p99s):.2f} ms: {ratio:.2f} x",
            f"<= {RATIO_GOAL:g} x",
            ratio <= RATIO_GOAL or median(p99s) <= LEAST_MS,
        ),
        SceneFact(reason, "ended within", f"{slowest:.3f} s", f"<= {ENDED_GOAL:g} s", slowest <= ENDED_GOAL),
        SceneFact(reason, "told with this reason", f"{told} of {len(ended)}", "all", told >= len(ended) > 0),
    ]


async def _one_more(ended: list[float], before: int) -> None:
    """Wait until a flood has ended that began in this round, if the round was shorter than that."""
    deadline = time.monotonic() + TIME_LIMIT
    while len(ended) <= before and time.monotonic() < deadline:  # noqa: ASYNC110 - rings no bell
        await asyncio.sleep(0.01)


async def _told(styx: StyxUnderTest, reason: str, before: int, ended: int) -> int:
    """Connections that were told this reason since then: when it is as many as have ended, or after a while."""
    deadline = time.monotonic() + TOLD_WITHIN
    while (told := (await goaways(styx)).get(reason, 0) - before) < ended:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    return told


async def _attack(port: int, flood: list[Frame], ended: list[float]) -> None:
    """One connection after the other sends all of it, and waits for the end. Frames are written and read here: a
    library would object to what it has not sent itself."""
    data = f.PREFACE + encoded([Frame(f.SETTINGS, 0, 0), *flood])
    while True:
        began = time.monotonic()
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(data)
                async with asyncio.timeout(TIME_LIMIT):
                    await _until_goaway(reader)
            finally:
                writer.transport.abort()
            ended.append(time.monotonic() - began)
        await asyncio.sleep(max(0.0, began + EVERY - time.monotonic()))


async def _until_goaway(reader: asyncio.StreamReader) -> None:
    """Read until a GOAWAY comes, or the connection ends."""
    rest = b""
    while data := await reader.read(1 << 16):
        found, rest = frames_of(rest + data)
        if any(frame.kind == f.GOAWAY for frame in found):
            return
