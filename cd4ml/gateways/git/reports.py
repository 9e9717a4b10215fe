"""Reports: files on a commit without parents, under a ref of the remote that no clone brings."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from cd4ml.errors import RemoteError
from cd4ml.gateways.git.remote import Remotes
from cd4ml.gateways.git.values import OBJECTS_ALONE, RefUpdate

REPORTS = "refs/cd4ml/reports/"
"""Below it lies, by key, what was last reported. Derived and disposable: no fetch of cd4ml's asks for it."""

_WHO = "cd4ml <cd4ml@localhost>"
_WHEN = "2000-01-01T00:00:00Z"
_MESSAGE = "A report of cd4ml\n\nIt was computed from records, and can be computed again.\n"


class Reports(Remotes):
    """What the remote holds of reports, and putting one there."""

    def write_report(self, files: Mapping[str, bytes]) -> str:
        """A commit without parents that holds these files; writes objects only.

        Its id is a function of the files: nobody's name and no time of day is in it. Raises RepositoryError for a
        path that leads out of the tree.
        """
        _, data = self.commit_text(self.write_tree(None, files), (), _MESSAGE, _WHO, _WHEN)
        return self.write_commit(data)

    def report(self, remote: str, key: str) -> str | None:
        """The commit of a report that the remote has, or nothing. No object is brought. Raises RemoteError."""
        return self.remote_ref(remote, REPORTS + key)

    def reports(self, remote: str) -> dict[str, str]:
        """The commits of all reports that the remote has, by key. No object is brought. Raises RemoteError."""
        lines = self._remote_command("ls-remote", "--end-of-options", remote, f"{REPORTS}*").text.splitlines()
        parts = (line.split("\t", 1) for line in lines if "\t" in line)
        return {ref.removeprefix(REPORTS): commit for commit, ref in parts if ref.startswith(REPORTS)}

    def bring_reports(self, remote: str, keys: Collection[str]) -> None:
        """Bring the objects of these reports, under no ref; harmless where one is gone meanwhile."""
        for some in (sorted(keys), *([key] for key in sorted(keys))) if keys else ():
            with suppress(RemoteError):
                refs = [REPORTS + key for key in some]
                self._remote_command("fetch", *OBJECTS_ALONE, "--end-of-options", remote, *refs)
                if len(some) == len(keys):
                    break

    def remote_url(self, remote: str) -> str:
        """The address of a remote as Git uses it, ``""`` when it has none. It may hold a token: not to be shown."""
        return self.git("remote", "get-url", "--", remote, allowed=(0, 2, 128)).text.strip()

    def put_report(self, remote: str, key: str, before: str | None, commit: str) -> None:
        """Let a report follow the one that was there, or none. Raises RemoteError, after which nobody knows."""
        self.push(remote, [RefUpdate(REPORTS + key, before or "", commit)])

    def drop_reports(self, remote: str, reports: Mapping[str, str], keys: Sequence[str]) -> None:
        """Take these from the remote if they are yet as ``reports`` says: all of them, or none. Raises RemoteError."""
        if keys:
            self.push(remote, [RefUpdate(REPORTS + key, reports[key], "") for key in keys])
