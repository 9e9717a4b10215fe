"""One door per outside system. A gateway answers questions and does as it is told; it decides nothing.

process: starts and ends programs · git: Git repositories and remotes · hydra: composes configuration ·
dvc: DVC's remote storage and cache · store: the SQLite query cache · files: the file system, atomically ·
warm: the line to the warm process.
"""
