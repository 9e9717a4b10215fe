"""``python -m cd4ml`` is ``cd4ml``."""

from cd4ml.cli.entry import main

main()
