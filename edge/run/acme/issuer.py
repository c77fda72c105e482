"""Carries out the plan of orders (`rules/acme/issuance_plan.py`): one task for each order under way.

    lock ─► records of an earlier process ─► take ─► route known? ─► order ─► proof served ─► answer ─► finalize
                                               ▲                                                  ▼
                                               └───────── renewal, or another try ◄── file, and workers told

Whatever is decided is saved before it is done, so that a process that dies is continued by the next one: an order
under way is taken up again by its URL, with the same key.
"""

import asyncio
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import inf
from typing import Protocol, TypeVar

import structlog

from edge.net.acme.authority import AuthorityError, CertificateAuthority, ExternalAccount, OrderError, new_key
from edge.net.acme.issuance_files import IssuanceFiles
from edge.net.secret_files import read_secret
from edge.rules.acme.issuance_plan import IssuancePlan, IssuanceStep, PlannedStep
from edge.rules.acme.issuance_records import IssuanceGate, SavedAccount
from edge.rules.certificates.certificate_checks import UnusableCertificate, check_dates, checked_pair
from edge.rules.certificates.certificate_names import is_covered
from edge.rules.certificates.certificates import SharedChains
from edge.rules.settings.tls import AcmeSettings
from edge.rules.tls.challenge_responses import Challenge

LOCK_PERIOD = 0.5
"Seconds between two attempts to become the process that orders."
ORDER_TIMEOUT = 180.0
"Seconds for one order, from its beginning to the certificate."
FIRST_POLL, LONGEST_POLL = 0.1, 10.0
"Seconds between two requests for the state of an order: doubled each time."
FORGET_PERIOD = 3600.0
"Seconds between two looks for records that are no longer needed."
T = TypeVar("T")

log = structlog.get_logger("styx.issuer")


class EdgeLink(Protocol):
    """The interface of the edge as the issuer uses it: `IssuerLink`."""

    async def route_of(self, hostname: str) -> str:
        """Whether the source of routes knows a hostname: `known`, `unknown`, or `unsure`."""

    async def serve(self, challenge: Challenge) -> int:
        """Have all workers serve this proof. Returns how many do."""

    def end(self, hostname: str) -> None:
        """Have no worker serve the proof of this hostname any more."""

    def changed(self, hostname: str) -> None:
        """Tell all workers that the certificate of a name has been written."""


class NotNowError(Exception):
    """A name is not ordered now. The text: a stable code, as for `IssuancePlan.not_ordered`."""


class Issuer:
    """Orders certificates, one process for each directory of certificates."""

    def __init__(
        self,
        settings: AcmeSettings,
        plan: IssuancePlan,
        files: IssuanceFiles,
        authority: Callable[[], CertificateAuthority],
        *,
        rand: Callable[[], float],
        count: Callable[[str], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`authority` makes one that is not connected. `count` gets the result of each order."""
        self._settings = settings
        self._plan = plan
        self._files = files
        self._new_authority = authority
        self._authority = authority()
        self._rand, self._count, self._wall = rand, count, wall
        self.link: EdgeLink
        self._wake = asyncio.Event()
        self._connecting, self._saving = asyncio.Lock(), asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._saved_gate: IssuanceGate | None = None
        # One request to the authority at a time: the library is not made for more, and limits keep orders few.
        self._requests, self._disk = _one_thread("authority"), _one_thread("files")

    def wanted(self, hostnames: list[str]) -> None:
        """Workers have found no certificates for these hostnames, which the source of routes knows."""
        now = self._wall()
        for hostname in hostnames:
            record = self._plan.records.get(hostname)
            if record is not None and record.not_after > now and self._files.certificate(hostname) is None:
                self._plan.lost(hostname, now)
            self._plan.want(hostname, now)
        self._wake.set()

    async def run(self) -> None:
        """Order until it is cancelled."""
        await self._take_lock()
        self._plan.load(await self._on_disk(lambda: list(self._files.records())), self._wall())
        log.info("ACME issuer started", code="issuer_began", names=len(self._plan.records))
        try:
            while True:
                self._wake.clear()
                while (planned := self._plan.take(self._wall())) is not None:
                    task = asyncio.create_task(self._carry_out(planned), name=f"order {planned.record.hostname}")
                    self._tasks.add(task)
                    task.add_done_callback(self._done)
                await self._save()
                await self._pause(self._plan.next_at(self._wall()))
        finally:
            for task in self._tasks:
                task.cancel()

    def close(self) -> None:
        """End its threads, and let another process order."""
        for thread in (self._requests, self._disk):
            thread.shutdown(wait=False, cancel_futures=True)
        self._files.release_lock()

    async def _take_lock(self) -> None:
        is_told = False
        while not await self._on_disk(self._files.take_lock):
            if not is_told:
                log.info("ACME issuer waiting for another process", code="issuer_waits")
                is_told = True
            await asyncio.sleep(LOCK_PERIOD)

    async def _pause(self, until: float) -> None:
        seconds = FORGET_PERIOD if until == inf else min(max(0.0, until - self._wall()), FORGET_PERIOD)
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            if seconds == FORGET_PERIOD:
                for hostname in self._plan.forget_old(self._wall()):
                    self._files.forget(hostname)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    async def _save(self) -> None:
        """Save what has changed, also what another task is saving at this moment."""
        async with self._saving:
            while self._plan.unsaved:
                record = next(iter(self._plan.unsaved.values()))
                await self._on_disk(partial(self._files.save_record, record))
                if self._plan.unsaved.get(record.hostname) is record:
                    del self._plan.unsaved[record.hostname]
            gate = self._plan.gate(self._wall())
            if gate != self._saved_gate:
                await self._on_disk(partial(self._files.save_gate, gate))
                self._saved_gate = gate

    # one step

    async def _carry_out(self, planned: PlannedStep) -> None:
        """Do it. Raises nothing but CancelledError: the plan learns how it ended."""
        hostname, plan = planned.record.hostname, self._plan
        try:
            async with asyncio.timeout(ORDER_TIMEOUT):
                if planned.step is IssuanceStep.ASK:
                    await self._ask_renewal(hostname)
                else:
                    await self._order(planned)
        except NotNowError as error:
            plan.not_ordered(hostname, str(error), self._wall())
            if str(error) != "limit":
                self._count(str(error))
                log.warning(
                    "certificate not ordered", code="certificate_not_ordered", hostname=hostname, reason=str(error)
                )
        except OrderError as error:
            await self._failed(hostname, error.reason, str(error), error.retry_after)
        except AuthorityError as error:
            self._authority = self._new_authority()
            plan.authority_failed(hostname, str(error), error.retry_after, self._wall(), self._rand())
            await self._save()
            self._count("authority_failed")
            pause = round(plan.gate(self._wall()).until - self._wall(), 1)
            log.error("ACME authority failed", code="acme_authority_failed", reason=str(error), retry_in=pause)
        except TimeoutError:
            await self._failed(hostname, "timeout", f"no certificate within {ORDER_TIMEOUT:g} s", 0.0)
        except Exception as error:
            log.exception(
                "certificate order failed with an internal error", code="certificate_order_fault", hostname=hostname
            )
            await self._failed(hostname, "fault", f"{type(error).__name__}: {error}", 0.0)
        self.link.end(hostname)  # not when this process ends: the next one takes the order up again

    async def _failed(self, hostname: str, reason: str, details: str, retry_after: float) -> None:
        now = self._wall()
        self._plan.failed(hostname, reason, details, retry_after, now, self._rand())
        await self._save()
        self._count(reason)
        record = self._plan.records[hostname]
        log.warning(
            "certificate order failed",
            code="certificate_order_failed",
            hostname=hostname,
            reason=reason,
            details=details,
            failures=record.failures,
            retry_in=round(record.retry_at - now),
        )

    async def _order(self, planned: PlannedStep) -> None:
        record, hostname = planned.record, planned.record.hostname
        state = await self.link.route_of(hostname)
        if state != "known":
            raise NotNowError("unknown_host" if state == "unknown" else "route_unsure")
        await self._connect()
        order_url = record.order_url if planned.step is IssuanceStep.RESUME else ""
        key = await self._on_disk(lambda: self._files.key(hostname)) if order_url else None
        if key is None:
            if not self._plan.begin_order(hostname, self._wall()):
                raise NotNowError("limit")
            key = fresh = new_key()
            await self._on_disk(lambda: self._files.save_key(hostname, fresh))
            await self._save()
            order_url = await self._of_authority(lambda: self._authority.begin(hostname, self._settings.profile))
            self._plan.began(hostname, order_url)
            await self._save()
        chain = (await self._complete(hostname, order_url, key)).encode()
        not_before, not_after = self._checked(hostname, chain, key)
        await self._on_disk(lambda: self._files.save_certificate(hostname, chain, key))
        self._plan.issued(hostname, not_before, not_after, self._wall(), self._rand())
        await self._save()
        await self._on_disk(lambda: self._files.remove_key(hostname))
        self.link.changed(hostname)
        self._count("issued")
        days = round((not_after - self._wall()) / 86_400, 1)
        log.info(
            "certificate issued", code="certificate_issued", hostname=hostname, step=planned.step.value, days=days
        )

    async def _complete(self, hostname: str, order_url: str, key: bytes) -> str:
        """Lead an order to its end, from whatever state it is in. Returns the certificate."""
        status = (await self._of_authority(lambda: self._authority.state(order_url))).status
        if status == "pending":
            await self._prove(hostname, order_url)
            status = await self._left(order_url, "pending")
        if status == "ready":
            await self._of_authority(lambda: self._authority.finalize(order_url, hostname, key))
            await self._left(order_url, "ready")
        elif status == "processing":
            await self._left(order_url, "processing")
        return await self._of_authority(lambda: self._authority.certificate(order_url))

    async def _prove(self, hostname: str, order_url: str) -> None:
        proof = await self._of_authority(lambda: self._authority.proof(order_url))
        if not await self.link.serve((hostname, proof.token, proof.response)):
            raise NotNowError("route_unsure")
        await self._of_authority(lambda: self._authority.answer(order_url))

    async def _left(self, order_url: str, status: str) -> str:
        """Ask until the order has left this state, and is not being processed. Returns its new one."""
        pause = FIRST_POLL
        while True:
            state = await self._of_authority(lambda: self._authority.state(order_url))
            if state.status not in (status, "processing"):
                return state.status
            await asyncio.sleep(min(max(pause, state.retry_after), LONGEST_POLL))
            pause = min(pause * 2, LONGEST_POLL)

    def _checked(self, hostname: str, chain: bytes, key: bytes) -> tuple[float, float]:
        """Check that workers can use a certificate. Returns its notBefore and notAfter. Raises OrderError."""
        try:
            checked = checked_pair(chain, key, SharedChains())
            check_dates(checked.pair, self._wall())
        except UnusableCertificate as error:
            raise OrderError("unusable", str(error)) from error
        if not is_covered(hostname, checked.names):
            raise OrderError("unusable", "the certificate does not cover the hostname")
        return checked.pair.not_before, checked.pair.not_after

    async def _ask_renewal(self, hostname: str) -> None:
        now = self._wall()
        chain = await self._on_disk(lambda: self._files.certificate(hostname))
        try:
            await self._connect()
            window, retry_after = await self._of_authority(lambda: self._authority.renewal_window(chain or b""))
        except (AuthorityError, ValueError) as error:
            log.warning(
                "certificate renewal time unavailable",
                code="renewal_time_unknown",
                hostname=hostname,
                reason=str(error),
            )
            window, retry_after = None, None
        self._plan.renewal_suggested(hostname, window, retry_after, now, self._rand())
        await self._save()

    # the account

    async def _connect(self) -> None:
        """Be connected, with an account. Raises AuthorityError, OSError."""
        async with self._connecting:
            if self._authority.is_connected:
                return
            settings, url = self._settings, self._settings.directory_url or ""
            saved = await self._on_disk(lambda: self._files.account(url))
            if saved is None:
                saved = SavedAccount(url, new_key().decode())
                await self._on_disk(lambda: self._files.save_account(saved))
            external = None
            if settings.eab_key_file is not None:
                external = ExternalAccount(settings.eab_key_id, read_secret(settings.eab_key_file))
            key = saved.key.encode()
            found = await self._of_authority(lambda: self._authority.connect(key, settings.contact, external))
            log.info("ACME account in use", code="acme_account", account=found, directory=url)

    # threads

    async def _of_authority(self, ask: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._requests, ask)

    async def _on_disk(self, do: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, do)


def _one_thread(name: str) -> ThreadPoolExecutor:
    """A thread that receives no signals: the main thread handles them."""
    mask = signal.SIG_BLOCK, signal.valid_signals()
    return ThreadPoolExecutor(1, name, initializer=signal.pthread_sigmask, initargs=mask)
