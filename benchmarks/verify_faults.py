"""How many injected faults ``cd4ml verify`` finds, of every kind that a project can suffer.

A small real project is made, with nine records in five folds; then one fault after the other is injected, looked for,
and undone: objects deleted, truncated, flipped and swapped, in Git here and on its remote, in DVC's cache and on its
remote; records edited, dropped, reordered; chains rewritten. Run it from the root of the checkout::

    python benchmarks/verify_faults.py 500

The last lines count what was found; exit 0 when that was all.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

TEST = "tests/controller/test_verify_faults.py"


def main() -> int:
    """Run the test of faults with another count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=500)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    env = {**os.environ, "CD4ML_FAULTS": str(asked.count), "CD4ML_FAULTS_SEED": str(asked.seed)}
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-s", TEST], env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
