"""How the master handles the messages of its children: real children, of which each does one thing."""

import os
import signal
import time

import pytest

from edge.admin.health import Stage
from edge.admin.scoreboard import Scoreboard, cell
from edge.rules.settings import AdminSettings, Settings
from edge.run.configuration_file import ConfigurationFile
from edge.run.control.control_messages import (
    AcceptingStarted,
    Command,
    CommandFinished,
    Draining,
    Ready,
    ToChild,
    Unpacker,
    packed,
)
from edge.run.master import MOST_COMMANDS, Master
from edge.run.processes.process_spawner import Kind, ProcessSpawner
from edge.run.processes.supervisor import Supervisor
from edge.run.sockets.listening_sockets import Sockets, Spare, open_sockets
from edge.run.sockets.systemd import Systemd
from tests.support.processes.process_verbs import DEADLINE

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
SETTINGS = Settings.model_validate(
    {"listeners": ({"address": "127.0.0.1:0"},), "core_api": {"url": "http://127.0.0.1:9"}}
)


@pytest.fixture
def spawner():
    spawner = ProcessSpawner(Scoreboard())
    yield spawner
    spawner._control.close()


@pytest.fixture
def supervisor(spawner):
    return Supervisor(spawner, spawner.board.row(0), SETTINGS, Sockets([], None), 0)


def says(*messages, hears=None):
    """A child that sends these messages, and ends when the master is gone: with status 7, when it has received what
    it should."""

    def run(line, row):
        for message in messages:
            line.sendall(packed(message))
        received, unpacker = [], Unpacker(ToChild)
        while data := line.recv(65536):
            received += unpacker.feed(data)
        return 7 if hears in received else 0

    return run


def started(spawner, kind, run):
    return spawner._start(kind, 0, SETTINGS, [], run)


def commands_of(supervisor, child):
    """Read the messages of this child until it has sent all. Returns the commands among them."""
    commands, deadline = [], time.monotonic() + DEADLINE
    while not (child.ready or child.channel.ended) and time.monotonic() < deadline:
        commands += supervisor.received(child)
    return commands


def ended(child):
    """Close the channel. Returns the child's exit status."""
    child.channel.close()
    return os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])


def test_the_admin_process_may_send_commands(supervisor, spawner):
    admin = supervisor._admin.child = started(spawner, Kind.ADMIN, says(Command(5, "reload"), Ready()))
    assert commands_of(supervisor, admin) == [Command(5, "reload")]
    ended(admin)


def test_a_worker_may_not_send_commands(supervisor, spawner):
    """Its channel is closed at once; it may finish, and another is started in its slot."""
    worker_slots = supervisor._worker_slots
    worker_slots.append(type(supervisor._admin)(Kind.WORKER, 0))
    worker = worker_slots[0].child = started(
        spawner, Kind.WORKER, says(AcceptingStarted(), Draining(), Command(5, "upgrade"), Ready())
    )
    assert commands_of(supervisor, worker) == []
    assert worker.channel.violation
    assert not worker.ready, "what it says after that is not received"
    assert (worker_slots[0].child, supervisor.anybody_leaves) == (None, True)
    assert spawner.board.row(0).cells[cell("styx_worker_restarts_total", "bad_message")] == 1
    ended(worker)


def test_a_replaced_admin_process_may_not_send_commands(supervisor, spawner):
    """It gets a result all the same, because a client of the admin API waits for it."""
    refused = CommandFinished(5, False, ["another admin process has taken the place of this one"])
    before = started(spawner, Kind.ADMIN, says(Command(5, "reload"), Ready(), hears=refused))
    now = supervisor._admin.child = started(spawner, Kind.ADMIN, says(Ready()))
    assert commands_of(supervisor, before) == []
    assert ended(before) == 7
    ended(now)


def test_waiting_commands_are_bounded(supervisor, spawner):
    """Commands beyond the limit get that as their result."""
    many = [Command(number, "reload") for number in range(1, MOST_COMMANDS + 3)]
    refused = CommandFinished(MOST_COMMANDS + 2, False, [f"{MOST_COMMANDS} orders wait already"])
    admin = supervisor._admin.child = started(spawner, Kind.ADMIN, says(*many, Ready(), hears=refused))
    master = Master(ConfigurationFile("styx.yaml"), SETTINGS, Systemd())
    master._supervisor = supervisor
    master._enqueue(commands_of(supervisor, admin))
    assert list(master._commands) == many[:MOST_COMMANDS]
    assert ended(admin) == 7
    for descriptor in (master._wake, master._waker):
        os.close(descriptor)
    master._spawner._control.close()


@pytest.mark.parametrize("kind", [Kind.ADMIN, Kind.WORKER])
def test_a_child_that_was_ready_and_ended_before_the_others_were_is_replaced(supervisor, spawner, kind):
    slot = supervisor._admin if kind is Kind.ADMIN else type(supervisor._admin)(Kind.WORKER, 0)
    if kind is Kind.WORKER:
        supervisor._worker_slots.append(slot)
    child = slot.child = started(
        spawner, kind, says(*([] if kind is Kind.ADMIN else [AcceptingStarted()]), Ready())
    )
    commands_of(supervisor, child)
    child.signal(signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE
    while child.alive and time.monotonic() < deadline:
        supervisor._reap()
    assert (slot.child, child.alive) == (child, False), "while the edge starts, whoever waits for it looks at it"
    supervisor.send_stage(Stage.READY, "")
    assert slot.child is None
    assert slot.start_at <= time.monotonic()


def test_an_idle_admin_process_has_a_heartbeat(spawner, tmp_path):
    """It is not taken for one that stalls, though it gets no requests."""
    spawner.routes = tmp_path
    settings = SETTINGS.model_copy(update={"admin": AdminSettings(address="127.0.0.1:0")})
    sockets = open_sockets(settings, 1, Spare([]), admin_directories=())
    admin = spawner.admin(settings, sockets)
    beats, deadline = set(), time.monotonic() + DEADLINE
    while len(beats) < 4 and time.monotonic() < deadline:
        beats.add(admin.cells.heartbeat)
        time.sleep(0.01)
    sockets.close_all_but()
    assert ended(admin) == 0
    assert len(beats) == 4


def test_a_full_scoreboard_raises_oserror(spawner):
    spawner._rows.clear()
    with pytest.raises(OSError, match="processes are there already"):
        started(spawner, Kind.WORKER, says())


def test_a_command_that_raises_does_not_end_the_master(supervisor):
    master = Master(ConfigurationFile("styx.yaml"), SETTINGS, Systemd())
    master._supervisor = supervisor

    def fails():
        raise RecursionError("nested too deep")

    assert master._carry_out(fails) == (False, ["RecursionError: nested too deep"])
    for descriptor in (master._wake, master._waker):
        os.close(descriptor)
    master._spawner._control.close()


@pytest.mark.parametrize(("watchdog", "tick"), [(0.0, 1.0), (0.4, 0.2), (30.0, 1.0)])
def test_the_master_wakes_up_often_enough_for_the_watchdog_of_systemd(watchdog, tick):
    master = Master(ConfigurationFile("styx.yaml"), SETTINGS, Systemd(watchdog=watchdog))
    assert master._tick == tick
    for descriptor in (master._wake, master._waker):
        os.close(descriptor)
    master._spawner._control.close()
