"""Decides where the embedded PostgreSQL lives on disk and which operating system user runs it."""

import os
import pwd
import secrets
import stat
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# An address of a Unix socket holds 108 bytes on Linux, and the last one is a zero.
LONGEST_SOCKET_PATH = 107
SOCKET_NAME = ".s.PGSQL.5432"
# Where the database goes when the user who runs it can't enter the data folder.
ELSEWHERE = Path("/var/lib/bursar")
# PostgreSQL refuses to run as root.
SERVICE_USERS = ("postgres", "nobody")


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL can't be used; the message is a sentence for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The operating system user that PostgreSQL runs as."""

    uid: int
    gid: int

    @property
    def name(self) -> str:
        """Return the user's name, or the number of a user without one."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"with number {self.uid}"

    @property
    def is_named(self) -> bool:
        """Tell whether the system knows a name for this user."""
        return self.name != f"with number {self.uid}"

    def identity(self) -> dict[str, Any]:
        """Return the arguments that make subprocess run a program as this user."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can(self, *command: str) -> bool:
        """Try a command as this user and tell whether it succeeds.

        Trying counts access lists and mount options too, which permission bits don't show.
        """
        try:
            done = subprocess.run(
                command,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
                **self.identity(),
            )
        except PermissionError:
            return False
        return done.returncode == 0

    def can_enter(self, folder: Path) -> bool:
        """Tell whether this user can change into the folder."""
        return self.can("/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder))

    def make_folder(self, folder: Path) -> None:
        """Make a folder that only this user may enter.

        Raises FileExistsError or another OSError.
        """
        folder.mkdir(mode=0o700)
        if self.uid != os.geteuid():
            os.chown(folder, self.uid, self.gid, follow_symlinks=False)

    def open_file(self, path: Path, *, empty: bool = False) -> int:
        """Open a private file of this user for appending, and return its descriptor.

        Raises OSError.
        """
        # As root we write into a folder of a less trusted user: a link there must not lead us out.
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags | (os.O_TRUNC if empty else 0), 0o600)
        if self.uid != os.geteuid():
            os.fchown(descriptor, self.uid, self.gid)
        return descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The folders of one installation's database."""

    home: Path
    sockets: Path
    account: Account

    @property
    def cluster(self) -> Path:
        """Return PostgreSQL's own data folder."""
        return self.home / "cluster"

    @property
    def log(self) -> Path:
        """Return the file that PostgreSQL writes its log to."""
        return self.home / "postgres.log"

    @property
    def socket(self) -> Path:
        """Return the socket that PostgreSQL listens on."""
        return self.sockets / SOCKET_NAME

    def make(self) -> None:
        """Make the folders that are missing; of two processes at once, one makes each.

        Raises EmbeddedPostgresError or OSError.
        """
        if not self.home.exists():
            self._make_home()
        try:
            self._make_sockets()
        except FileNotFoundError:
            # Renaming a folder replaces an empty one of that name: another start has just put
            # its own in the place of ours. From now on it has a socket folder, and stays.
            self._make_sockets()

    def _make_sockets(self) -> None:
        """Make the folder of the socket, or check the one that is there."""
        try:
            self.account.make_folder(self.sockets)
        except FileExistsError:
            # The folder may lie in /tmp, where anybody can put one in our way.
            found = self.sockets.lstat()
            ours = stat.S_ISDIR(found.st_mode) and found.st_uid == self.account.uid
            if not ours or found.st_mode & 0o077:
                raise EmbeddedPostgresError(
                    f"{self.sockets} isn't a private folder of the user {self.account.name}. "
                    f"Remove it, then start again."
                ) from None

    def _make_home(self) -> None:
        """Make the database's folder; it gets its name when its owner is right."""
        self.home.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not self.account.can_enter(self.home.parent):
            raise EmbeddedPostgresError(
                f"PostgreSQL runs as the user {self.account.name}, who can't enter "
                f"{self.home.parent}. Choose another APP_DATA_DIR."
            )
        new = self.home.with_name(f"{self.home.name}.new-{secrets.token_hex(8)}")
        self.account.make_folder(new)
        try:
            new.rename(self.home)
        except OSError:
            new.rmdir()
            if not self.home.is_dir():
                raise


def settle(data_dir: Path) -> Place:
    """Return where the database of a data folder lives; decide it at the first call.

    It lives in `<data_dir>/postgres`. That is a link to a folder elsewhere when the user who runs
    PostgreSQL can't enter the data folder, for we never open a parent folder to others.

    Raises EmbeddedPostgresError or OSError.
    """
    data_dir = data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True)
    link = data_dir / "postgres"
    if not os.path.lexists(link) and not _founder().can_enter(data_dir):
        with suppress(FileExistsError):
            link.symlink_to(ELSEWHERE / secrets.token_hex(8))
    home = link.resolve()
    if home.exists() and not home.is_dir():
        raise EmbeddedPostgresError(f"{link} is a file, and the database needs that name. Move it.")
    account = _owner(home) if home.exists() else _founder()
    return Place(home=home, sockets=_sockets(data_dir, home), account=account)


def _founder() -> Account:
    """Return the user for a new database: ourselves, or a service user when we are root."""
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid())
    for name in SERVICE_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(uid=entry.pw_uid, gid=entry.pw_gid)
    raise EmbeddedPostgresError(
        "PostgreSQL refuses to run as root, and this system has neither a user postgres nor "
        "a user nobody. Start as a normal user."
    )


def _owner(home: Path) -> Account:
    """Return the user who owns an existing database, if we can run programs as that user."""
    found = home.stat()
    account = Account(uid=found.st_uid, gid=found.st_gid)
    if account.uid == 0:
        raise EmbeddedPostgresError(
            f"{home} belongs to root, and PostgreSQL refuses to run as root. "
            f"Give it to another user: chown -R nobody {home}"
        )
    if os.geteuid() not in (0, account.uid):
        raise EmbeddedPostgresError(
            f"The database in {home} belongs to the user {account.name}. "
            f"Start as that user or as root, or choose another APP_DATA_DIR."
        )
    return account


def _sockets(data_dir: Path, home: Path) -> Path:
    """Return the socket folder: inside the database's folder, or a short one in /tmp."""
    inside = home / "socket"
    # libpq takes a comma for the end of a host.
    if len(os.fsencode(inside / SOCKET_NAME)) <= LONGEST_SOCKET_PATH and "," not in str(inside):
        return inside
    # The name can't be guessed and is remembered in a link, so that every process finds the same.
    link = data_dir / "postgres-socket"
    with suppress(FileExistsError):
        link.symlink_to(f"/tmp/bursar-{secrets.token_hex(8)}")
    return link.readlink()
