"""Monitors the accept queues of all workers from the master, which holds the same sockets."""

from collections.abc import Iterable

import structlog

from edge.net.accept.accept_queue import accept_queue
from edge.rules.stuck_queue import StuckQueueDetector
from edge.run.processes.process_spawner import Child
from edge.run.sockets.listening_sockets import Sockets

log = structlog.get_logger("styx.master")


class AcceptQueueMonitor:
    """Publishes the lengths of the queues in the rows of the workers, and detects queues that are stuck."""

    def __init__(self) -> None:
        self._watches: dict[tuple[int, int], StuckQueueDetector] = {}
        "A detector for each queue, by slot and number of the listener."

    def check(self, sockets: Sockets, workers: Iterable[Child], now: float) -> set[int]:
        """Read all queues. Returns the slots with a queue that is not emptied although a worker accepts there."""
        stuck: set[int] = set()
        workers = list(workers)
        for child in workers:
            for number, sock in sockets.of_worker(child.slot).items():
                queue = accept_queue(sock)
                if queue is None:
                    continue
                child.cells.publish_queue(number, queue.length)
                watch = self._watches.setdefault((child.slot, number), StuckQueueDetector())
                # All workers accept from a socket that they share.
                accepting = [child] if sockets.listeners[number].by_slot else workers
                accepted = sum(worker.cells.accepted_on(number) for worker in accepting)
                if watch.look(queue.length, now, accepted):
                    self._log(child, str(sockets.listeners[number].address), queue.length, watch)
                if watch.is_stuck:
                    stuck.add(child.slot)
        return stuck

    def _log(self, child: Child, listener: str, length: int, watch: StuckQueueDetector) -> None:
        if watch.is_stuck:
            log.error(
                "accept queue not emptied",
                code="accept_queue_stuck",
                process=child.title,
                pid=child.pid,
                listener=listener,
                length=length,
                seconds=watch.timeout,
            )
        else:
            log.info(
                "accept queue emptied",
                code="accept_queue_emptied",
                process=child.title,
                pid=child.pid,
                listener=listener,
                length=length,
            )
