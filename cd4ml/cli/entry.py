"""Where the ``cd4ml`` command begins.

DVC starts ``cd4ml stage NAME`` for every stage of every run, so the way to a warm process must cost next
to nothing: it is tried before the command line proper is imported.
"""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command that ``sys.argv`` holds and end the process with its exit code."""
    arguments = sys.argv[1:]
    match arguments:
        case ["stage", name] if not name.startswith("-"):
            from cd4ml.gateways.warm import run_stage_warm

            code = run_stage_warm(name)
            if code is not None:
                sys.exit(code)
    from cd4ml.cli.app import run

    code = run(arguments)
    gc.freeze()  # the end of the process frees it all: a last search for garbage would cost more than many commands do
    sys.exit(code)
