"""The file of ticket secrets: who may read it, and two edges that have the same."""

import os
from pathlib import Path

import pytest

from edge.net.secret_files import SecretFileError
from edge.net.tls.ticket_rotation import TicketRotation
from edge.net.tls.ticket_secret_file import read_ticket_secrets
from edge.net.tls.tls_contexts import BaseContexts, TlsProfile
from edge.rules.tls.ticket_chain import TicketChain
from tests.net.tls.test_ticket_key_setter import Visitor
from tests.support.processes.unprivileged import needs_root
from tests.support.tls_parts import TLS12, TLS13

ONE, TWO = ("".join(f"{(seed * 37 + at * 11) % 256:02x}" for at in range(32)) for seed in (1, 2))


def written(path: Path, *secrets: str, mode: int = 0o600) -> str:
    path.write_text("\n".join(secrets))
    path.chmod(mode)
    return str(path)


class Edge:
    """The ticket keys of one edge, which began at its own time."""

    def __init__(self, began: int) -> None:
        self.bases = BaseContexts(TlsProfile.INTERMEDIATE, None)
        self.rotation = TicketRotation(self.bases, TicketChain(os.urandom(32), began), 3600.0, lambda: 10 * 3600.0)

    def read(self, path: str) -> None:
        self.rotation.secrets = read_ticket_secrets(path)
        self.rotation.rotate()


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=lambda version: version.name)
def test_two_edges_resume_each_others_sessions_while_secrets_are_replaced(tmp_path, version) -> None:
    first, second, client = Edge(3), Edge(10), Visitor(version)
    for edge in (first, second):
        edge.rotation.rotate()
    assert not client.resumes(first.bases)
    assert not client.resumes(second.bases), "without a file, each has its own"
    one, both, other, last = (
        written(tmp_path / name, *secrets)
        for name, secrets in (("1", [ONE]), ("2", [ONE, TWO]), ("3", [TWO, ONE]), ("4", [TWO]))
    )
    first.read(one)
    second.read(one)
    assert not client.resumes(first.bases)
    for step in (one, both, other):
        for edge in (first, second):
            edge.read(step)
            assert client.resumes(first.bases)
            assert client.resumes(second.bases)
    first.read(last)
    assert not client.resumes(first.bases), "its session began with the first secret"
    assert client.resumes(second.bases)
    first.rotation.secrets = None
    first.rotation.rotate()
    assert not client.resumes(first.bases)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_nobody_else_may_read_or_write_it(tmp_path, mode) -> None:
    with pytest.raises(SecretFileError, match=rf"others may access it \(mode 0{mode:o}\), chmod 600 it: /"):
        read_ticket_secrets(written(tmp_path / "tickets", ONE, mode=mode))
    assert len(read_ticket_secrets(written(tmp_path / "tickets", ONE, mode=0o400)).secrets) == 1


@needs_root
def test_nobody_else_may_own_it(tmp_path) -> None:
    path = written(tmp_path / "tickets", ONE)
    os.chown(path, 12345, -1)
    with pytest.raises(SecretFileError, match="belongs to user 12345, who could change it"):
        read_ticket_secrets(path)


def test_what_is_no_file_of_secrets(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path, words in (
        (tmp_path / "none", "No such file or directory: /"),
        (tmp_path, "directory"),
        (tmp_path / "pipe", "no regular file"),
        (written(tmp_path / "short", "abc"), "line 1: no random secret of at least 43 characters: /"),
    ):
        with pytest.raises(SecretFileError, match=words):
            read_ticket_secrets(str(path))
