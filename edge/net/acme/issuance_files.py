"""The files of the issuer, in the directory of certificates. Blocking.

    NAME.acme.pem           a certificate with its issuers and its key, which workers read as any other
    acme/account-ID.json    the account at one authority, with its key
    acme/names/NAME.json    what is known of the orders of a name (`IssuanceRecord`)
    acme/keys/NAME.pem      the key of an order under way
    acme/gate.json          what keeps all orders waiting (`IssuanceGate`)
    acme/lock               locked (flock(2)) by the one process that orders

All have mode 0600, and are replaced as a whole: a new file is complete on disk before it gets the name.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from edge.rules.acme.issuance_plan import may_be_ordered
from edge.rules.acme.issuance_records import IssuanceGate, IssuanceRecord, SavedAccount

FOLDER: Final = "acme"
SUFFIX: Final = ".acme.pem"
MOST_BYTES: Final = 1 << 20
"Bytes of one file that are read."
T = TypeVar("T")


class IssuanceFiles:
    """The files below one directory of certificates."""

    def __init__(self, directory: str) -> None:
        self._certificates = Path(directory)
        self._folder = self._certificates / FOLDER
        self._names, self._keys = self._folder / "names", self._folder / "keys"
        self._gate = self._folder / "gate.json"
        self._lock: int | None = None

    # by the issuer

    def take_lock(self) -> bool:
        """Become the one process that orders into this directory. Returns False while another one is. Makes the
        folders. Raises OSError."""
        for folder in (self._folder, self._names, self._keys):
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        if self._lock is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock = os.open(self._folder / "lock", flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release_lock(self) -> None:
        """Let another process order."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def records(self) -> Iterator[IssuanceRecord]:
        """All records. Files that are none are left out. Raises OSError."""
        for entry in os.scandir(self._names):
            hostname, dot, ending = entry.name.rpartition(".")
            if dot and ending == "json" and may_be_ordered(hostname):
                record = self.record(hostname)
                if record is not None:
                    yield record

    def save_record(self, record: IssuanceRecord) -> None:
        """Raises OSError."""
        self._replace(self._names / f"{record.hostname}.json", msgspec.json.encode(record))

    def forget(self, hostname: str) -> None:
        """Remove what is known of the orders of a name. Its certificate stays."""
        for path in (self._names / f"{hostname}.json", self._keys / f"{hostname}.pem"):
            with suppress(FileNotFoundError):
                path.unlink()

    def save_gate(self, gate: IssuanceGate) -> None:
        """Raises OSError."""
        self._replace(self._gate, msgspec.json.encode(gate))

    def account(self, directory_url: str) -> SavedAccount | None:
        """The account at this authority; None = there is none. Raises OSError when the file is unusable."""
        path = self._account_path(directory_url)
        try:
            found = msgspec.json.decode(_content(path), type=SavedAccount)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise OSError(f"{path} is no account: {error}") from error
        return found if found.directory_url == directory_url else None

    def save_account(self, account: SavedAccount) -> None:
        """Raises OSError."""
        self._replace(self._account_path(account.directory_url), msgspec.json.encode(account))

    def key(self, hostname: str) -> bytes | None:
        """The key of an order under way, as PEM; None = there is none. Raises OSError."""
        try:
            return _content(self._keys / f"{hostname}.pem")
        except FileNotFoundError:
            return None

    def save_key(self, hostname: str, key: bytes) -> None:
        """Raises OSError."""
        self._replace(self._keys / f"{hostname}.pem", key)

    def save_certificate(self, hostname: str, chain: bytes, key: bytes) -> None:
        """Put a certificate where workers read it. Raises OSError."""
        self._replace(self._certificates / f"{hostname}{SUFFIX}", b"\n".join((chain.strip(), key.strip(), b"")))

    def remove_key(self, hostname: str) -> None:
        """The order of this key is over. Raises OSError."""
        with suppress(FileNotFoundError):
            (self._keys / f"{hostname}.pem").unlink()

    def certificate(self, hostname: str) -> bytes | None:
        """The certificate of a name, with its key; None = there is none. Raises OSError."""
        try:
            return _content(self._certificates / f"{hostname}{SUFFIX}")
        except FileNotFoundError:
            return None

    # by the admin process

    def record(self, hostname: str) -> IssuanceRecord | None:
        """The state of the orders of a name; None = nothing. Raises OSError."""
        found = _decoded(self._names / f"{hostname}.json", IssuanceRecord)
        return found if found is not None and found.hostname == hostname else None

    def gate(self) -> IssuanceGate:
        """The reason why all orders wait. Raises OSError."""
        return _decoded(self._gate, IssuanceGate) or IssuanceGate()

    def _account_path(self, directory_url: str) -> Path:
        return self._folder / f"account-{sha256(directory_url.encode()).hexdigest()[:12]}.json"

    def _replace(self, path: Path, content: bytes) -> None:
        coming = self._folder / ".coming"
        with suppress(FileNotFoundError):
            os.unlink(coming)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(coming, flags, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(coming, path)


def _content(path: Path) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return file.read(MOST_BYTES)


def _decoded(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(_content(path), type=kind)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
