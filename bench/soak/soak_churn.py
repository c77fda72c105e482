"""What happens to the platform and to styx during `soak`: something every half second, drawn at random.

Sites that must be served (`STEADY`) are only treated as a platform treats them every day: their containers move
with notice, sleep and wake, one of several refuses for a while, their certificates are renewed. Something happens
to one container of a site at a time: the next one when that has passed. Passing sites also come and go, and their
containers are killed, moved without notice, and slow.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

from bench.operations.operated_edge import Edge, send
from edge.platform.containers.container import ContainerFailed
from edge.platform.pocket_platform import PocketPlatform
from edge.platform.registry import NameTaken, UnknownName

STEADY = {"steady-1": 4, "steady-2": 3, "steady-3": 3}
"Sites that must be served, and their containers."
PASSING = tuple(f"passing-{number}" for number in range(12))
"Sites that come and go."
MOST_PASSING = 9
"So many of them are there, at most."
QUEUE = 64
"Of each container of a steady site: refusals for want of room are not what is looked for."
PAUSE = 0.5
"Seconds between two acts."
FULL = 2.0
"Seconds for which a container refuses, or is slow."
REST = 4.0
"Seconds after an act on a container of a steady site, until the next one on that site."
DRAIN = 5
"Seconds for which an operator drains a server."
COMMAND_EVERY = 10
"One act of so many is a command of an operator: each is a process of its own."


def hostname(site: str) -> str:
    """Of the one environment that it has."""
    return f"live-{site}.localhost"


async def create_steady(platform: PocketPlatform) -> None:
    """Create the sites that must be served. Raises ContainerFailed."""
    for site, count in STEADY.items():
        await platform.create_environment(site, containers=count, queue=QUEUE, service_time=0.005)


class Churn:
    """Acts until it is cancelled. `acts` counts what was done, `complaints` says what could not be."""

    def __init__(self, platform: PocketPlatform, edge: Edge, rand: Random) -> None:
        self._platform = platform
        self._edge = edge
        self._rand = rand
        self.acts: Counter[str] = Counter()
        self.complaints: list[str] = []
        self._healing: set[asyncio.Task[None]] = set()
        self._left_alone_until = dict.fromkeys(STEADY, 0.0)

    async def run(self, pause: float = PAUSE) -> None:
        """Until it is cancelled."""
        kinds: tuple[tuple[int, str, Callable[[], Awaitable[None]]], ...] = (
            (16, "containers moved", self._move_steady),
            (6, "containers put to sleep", self._sleep_steady),
            (6, "containers full for a while", self._fill_steady),
            (4, "certificates renewed", self._renew),
            (24, "sites created", self._create),
            (10, "sites removed", self._remove),
            (10, "sites resized", self._resize),
            (8, "sites in maintenance, redirected, or back", self._change_service),
            (8, "containers killed, and back later", self._kill),
            (6, "containers moved without notice", self._move_silently),
            (6, "containers slow for a while", self._slow),
        )
        number = 0
        while True:
            number += 1
            if number % COMMAND_EVERY:
                [(_, what, act)] = self._rand.choices(kinds, [share for share, _, _ in kinds])
            else:
                what, act = "commands of an operator", self._command
            try:
                await act()
                self.acts[what] += 1
            except (UnknownName, NameTaken, IndexError):
                pass  # what was chosen has gone meanwhile, or there is nothing to choose from
            except (ContainerFailed, OSError) as error:
                self.complaints.append(f"{what}: {error}")
            await asyncio.sleep(pause)

    async def reload(self, **changes: object) -> None:
        """Change the configuration, and reload."""
        self._edge.configure(**changes)
        await self._styx("reload")
        self.acts["reloads"] += 1

    def rotate_log(self) -> None:
        """The access log begins anew."""
        log = self._edge.settings["access_log"]["path"]
        with suppress(FileNotFoundError):
            os.unlink(log)
        send(self._edge.processes()["master"], signal.SIGUSR1)
        self.acts["access logs rotated"] += 1

    async def stop(self) -> None:
        """Undo what is under way."""
        for task in self._healing:
            task.cancel()
        await asyncio.gather(*self._healing, return_exceptions=True)

    # sites that must be served

    async def _move_steady(self) -> None:
        await self._platform.move(self._steady_container())

    async def _sleep_steady(self) -> None:
        await self._platform.fleet.sleep(self._steady_container())

    async def _fill_steady(self) -> None:
        container_id = self._steady_container()
        self._platform.container(container_id).fill(on=True)
        self._heal_later(container_id)

    def _steady_container(self) -> str:
        """Of a site of which no other one is away. Raises IndexError when there is none."""
        now = time.monotonic()
        site = self._rand.choice([site for site, until in self._left_alone_until.items() if until <= now])
        self._left_alone_until[site] = now + REST
        return self._any_container([site])

    async def _renew(self) -> None:
        assert self._platform.pki is not None
        host = hostname(self._rand.choice(list(STEADY)))
        self._platform.pki.renew(host)
        await self._styx("invalidate", "certificate", host)

    # sites that come and go

    def _passing(self) -> list[str]:
        return [known.site for known in self._platform.registry.environments() if known.site in PASSING]

    async def _create(self) -> None:
        if len(self._passing()) < MOST_PASSING:
            site = self._rand.choice(PASSING)
            await self._platform.create_environment(site, containers=self._rand.randint(1, 3))

    async def _remove(self) -> None:
        await self._platform.remove_environment(self._rand.choice(self._passing()))

    async def _resize(self) -> None:
        await self._platform.set_goal(self._rand.choice(self._passing()), containers=self._rand.randint(0, 3))

    async def _change_service(self) -> None:
        site = self._rand.choice(self._passing())
        maintenance, redirect = self._rand.choice([(True, None), (False, "https://other.test/"), (False, None)])
        self._platform.registry.set_service(site, "live", maintenance=maintenance, redirect=redirect)

    async def _kill(self) -> None:
        container_id = self._any_container(self._passing())
        await self._platform.container(container_id).kill()
        self._heal_later(container_id)

    async def _move_silently(self) -> None:
        await self._platform.move(self._any_container(self._passing()), announce=False)

    async def _slow(self) -> None:
        container_id = self._any_container(self._passing())
        self._platform.container(container_id).slow(20)
        self._heal_later(container_id)

    # operators

    async def _command(self) -> None:
        steady, passing = hostname(self._rand.choice(list(STEADY))), hostname(self._rand.choice(PASSING))
        server = self._rand.choice(self._platform.fleet.servers)
        what: tuple[str, ...] = self._rand.choice(
            [
                ("invalidate", "hostname", steady),
                ("invalidate", "hostname", passing),
                ("invalidate", "site", next(iter(STEADY))),
                ("invalidate", "all"),
                ("drain", "server", server, "--for", f"{DRAIN}s", "--force"),
                ("explain", steady),
                ("clients",),
                ("routes",),
            ]
        )
        if what[0] == "drain":  # the server may have a container of each site
            now = time.monotonic()
            if max(self._left_alone_until.values()) > now:
                raise IndexError("something is under way")
            self._left_alone_until = dict.fromkeys(STEADY, now + DRAIN + REST)
        await self._styx(*what)

    async def _styx(self, *what: str) -> None:
        code, output = await self._edge.command(*what)
        if code:
            self.complaints.append(f"styx {' '.join(what)}: exit status {code}: {output[-300:]}")

    def _any_container(self, sites: list[str]) -> str:
        site = self._rand.choice(sites)
        return self._rand.choice(self._platform.containers(site)).spec.id

    def _heal_later(self, container_id: str) -> None:
        async def heal() -> None:
            await asyncio.sleep(FULL)
            with suppress(UnknownName):  # it was removed meanwhile
                await self._platform.container(container_id).heal()

        task = asyncio.create_task(heal())
        self._healing.add(task)
        task.add_done_callback(self._healing.discard)
