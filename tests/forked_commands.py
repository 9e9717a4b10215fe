"""``cd4ml`` for pages and programs that type it dozens of times: each command is a fork of one that has its imports.

What runs is the command's own entry, in a process of its own, with the caller's arguments, folder, environment and
descriptors, and it ends as that process ends, by a signal if need be; only the seconds of importing are paid once. A
signal to what was called does not reach it. That ``cd4ml`` also starts from nothing, the tests of the
command line show, and those of CI, whose jobs start it so.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_IMPORTS = (
    "cd4ml.cli.app",
    "hydra",
    "hydra.core.override_parser.overrides_parser",
    "pandas",
    "pyarrow.parquet",
    "rich.live",
    "rich.table",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "skops.io",
    "xgboost",
)
_CLIENT = """#!{python} -IS
import array, json, os, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
request = {{"arguments": sys.argv, "folder": os.getcwd(), "environment": dict(os.environ)}}
descriptors = array.array("i", [0, 1, 2])
with line.makefile("wb") as sink:
    line.sendmsg([b"\\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    sink.write(json.dumps(request).encode() + b"\\n")
code = int(line.recv(16) or 3)
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextlib.contextmanager
def forked_commands(folder: Path) -> Iterator[Path]:
    """Write ``cd4ml`` into ``folder``, which is to be put first in ``PATH``; it serves while the block runs."""
    place = Path(tempfile.mkdtemp(prefix="cd4ml-"))  # short, as the path of a socket has to be
    address = place / "forks"
    with (folder / "forks.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-P", __file__, str(address)], stdout=log, stderr=log, start_new_session=True
        )
    try:
        while not address.exists():
            assert server.poll() is None, (folder / "forks.log").read_text("utf-8")
            time.sleep(0.01)
        program = folder / "cd4ml"
        program.write_text(_CLIENT.format(python=sys.executable, address=str(address)), "utf-8")
        program.chmod(0o755)
        yield folder
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        shutil.rmtree(place)


def _serve(address: str) -> None:
    """Fork for each command that comes; returns in the fork, which is to be that command."""
    for name in _IMPORTS:
        importlib.import_module(name)
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{address}.new")
        listener.listen(8)
        Path(f"{address}.new").rename(address)
        while True:
            line, _ = listener.accept()
            if not os.fork():
                break
            line.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    _attend(line)


def _attend(line: socket.socket) -> None:
    """Fork once more, wait for how the command ends, and tell its client; returns in the command's process."""
    descriptors = array.array("i")
    _, ancillary, _, _ = line.recvmsg(1, socket.CMSG_SPACE(3 * descriptors.itemsize))
    descriptors.frombytes(ancillary[0][2])
    with line.makefile("rb") as source:
        request = json.loads(source.readline())
    if command := os.fork():
        for descriptor in (0, 1, 2, *descriptors):
            os.close(descriptor)
        _, status = os.waitpid(command, 0)
        line.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    line.close()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = request["arguments"]
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


if __name__ == "__main__":
    _serve(sys.argv[1])
    from cd4ml.cli.entry import main

    main()
