"""The list of `styx clients`: all workers together, who is at a limit first."""

from edge.rules.limits.client_records import ClientList, ClientNow
from edge.run.commands.clients_command import merged_clients, render_clients


def test_workers_are_added_up_and_the_worst_come_first():
    first = ClientList(
        3, [ClientNow("a", 5, 1, 0, False), ClientNow("b", 1, 0, 9, True), ClientNow("c", 1, 4, 0, False)]
    )
    second = ClientList(2, [ClientNow("a", 2, 2, 1, False), ClientNow("b", 1, 0, 1, False)])
    merged = merged_clients([first, second])
    assert merged == [
        ClientNow("b", 2, 0, 10, True),
        ClientNow("c", 1, 4, 0, False),
        ClientNow("a", 7, 3, 1, False),
    ]
    heading, worst, *_ = render_clients(merged).splitlines()
    assert heading.split() == ["client", "connections", "in", "flight", "unknown", "hostnames"]
    assert worst.split()[:4] == ["b", "2", "0", "10"]
    assert worst.endswith("429")
    assert render_clients([]) == "no client is connected"
