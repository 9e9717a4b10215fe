"""Editing: open an experiment branch, run the work tree while it is edited, take the base branch in."""
