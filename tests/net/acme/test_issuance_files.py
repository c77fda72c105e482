"""The files of the issuer."""

import stat
from pathlib import Path

import pytest

from edge.net.acme.issuance_files import IssuanceFiles
from edge.rules.acme.issuance_records import IssuanceGate, IssuanceRecord, SavedAccount

RECORD = IssuanceRecord("a.test", wanted_at=5.0, first_orders=(1.0, 2.0), reason="proof_failed", details="é")


@pytest.fixture
def files(tmp_path: Path) -> IssuanceFiles:
    files = IssuanceFiles(str(tmp_path))
    assert files.take_lock()
    return files


def test_what_is_saved_is_read_again(files: IssuanceFiles, tmp_path: Path) -> None:
    account = SavedAccount("https://ca.test/dir", "key")
    files.save_record(RECORD)
    files.save_gate(IssuanceGate(9.0, "orders_per_hour"))
    files.save_account(account)
    files.save_key("a.test", b"KEY")
    files.save_certificate("a.test", b"CHAIN\n", b"KEY\n")
    again = IssuanceFiles(str(tmp_path))
    assert (list(again.records()), again.record("a.test")) == ([RECORD], RECORD)
    assert again.gate() == IssuanceGate(9.0, "orders_per_hour")
    assert again.account("https://ca.test/dir") == account
    assert again.account("https://other.test/dir") is None
    assert (again.key("a.test"), again.certificate("a.test")) == (b"KEY", b"CHAIN\nKEY\n")
    assert (tmp_path / "a.test.acme.pem").exists()
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}
    files.remove_key("a.test")
    files.forget("a.test")
    assert (again.key("a.test"), again.record("a.test")) == (None, None)
    assert again.certificate("a.test") is not None


def test_nothing_is_there(tmp_path: Path) -> None:
    files = IssuanceFiles(str(tmp_path))
    assert (files.record("a.test"), files.gate(), files.key("a.test")) == (None, IssuanceGate(), None)
    assert (files.certificate("a.test"), files.account("https://ca.test/dir")) == (None, None)


@pytest.mark.parametrize("content", ["", "{", '{"hostname": "b.test"}', '{"hostname": 5}'])
def test_a_record_that_is_none_is_left_out(files: IssuanceFiles, tmp_path: Path, content: str) -> None:
    (tmp_path / "acme/names/a.test.json").write_text(content)
    (tmp_path / "acme/names/.json").write_text(content)
    assert list(files.records()) == []


def test_a_damaged_account_is_not_replaced_silently(files: IssuanceFiles, tmp_path: Path) -> None:
    files.save_account(SavedAccount("https://ca.test/dir", "key"))
    [path] = tmp_path.glob("acme/account-*")
    path.write_text("{")
    with pytest.raises(OSError, match="is no account"):
        files.account("https://ca.test/dir")


def test_one_process_has_the_lock(files: IssuanceFiles, tmp_path: Path) -> None:
    other = IssuanceFiles(str(tmp_path))
    assert not other.take_lock()
    assert files.take_lock()
    files.release_lock()
    assert other.take_lock()


def test_a_link_is_replaced_and_not_followed(files: IssuanceFiles, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("x")
    (tmp_path / "acme/.coming").symlink_to(victim)
    (tmp_path / "acme/gate.json").symlink_to(victim)
    files.save_gate(IssuanceGate(1.0, "orders_per_hour"))
    assert victim.read_text() == "x"
