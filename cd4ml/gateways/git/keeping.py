"""What all of history holds and who still reaches it, and commits that somebody signed: for keeping and forgetting."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from cd4ml.errors import RepositoryError, ToolError
from cd4ml.gateways.files import naming
from cd4ml.gateways.git.connection import NO_SETTINGS, environment, last_line
from cd4ml.gateways.git.history import Commits
from cd4ml.gateways.process import run

_SSH_SIGNATURE = "-----BEGIN SSH SIGNATURE-----"
_HEX = 40
_FEW_TREES = 1000
"""More are read in the order in which Git keeps them."""


class Keeping(Commits):
    """Questions about everything that some tips reach, and signatures of commits."""

    def files_ever(self, tips: Iterable[str], endings: Sequence[str]) -> frozenset[str]:
        """The objects that lie, in any commit that the tips reach, in a file whose name has one of the endings.

        Raises RepositoryError when a tip is not here, IntegrityError for a tree that cannot be read.
        """
        return self._files(tips, endings)

    def files_now(self, tips: Iterable[str], endings: Sequence[str]) -> frozenset[str]:
        """The same of the tips alone, without what came before them."""
        return self._files(tips, endings, "--no-walk")

    def _files(self, tips: Iterable[str], endings: Sequence[str], *options: str) -> frozenset[str]:
        asked = "".join(f"{tip}\n" for tip in dict.fromkeys(tips)).encode()
        if not asked:
            return frozenset()
        command = ("rev-list", "--objects", "--filter=blob:none", *options, "--stdin")
        try:
            listed = self.git(*command, stdin=asked).stdout
        except ToolError as error:
            raise RepositoryError(f"history cannot be read: {last_line(error)}") from error
        # Git names each object once, by the first path that it has: so every tree is read, and not the paths
        trees = [line[:_HEX].decode() for line in listed.splitlines() if b" " in line]
        del listed
        wanted = re.compile(rb"(?:%s)\0(.{20})" % b"|".join(re.escape(one.encode()) for one in endings), re.DOTALL)
        found: set[bytes] = set()
        for data in self.read_many(self.in_stored_order(trees) if len(trees) > _FEW_TREES else trees):
            found.update(wanted.findall(data))
        return frozenset(match.hex() for match in found)

    def objects_at(self, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """The object at each commit and path, where there is one. Paths hold no line ends."""
        asked = "".join(f"{commit}:{path}\n" for commit, path in places).encode()
        told = self.git("cat-file", "--batch-check=%(objectname)", stdin=asked).text.splitlines() if places else []
        return {place: line for place, line in zip(places, told, strict=True) if len(line) == _HEX}

    def brought_by(self, commit: str, without: Iterable[str], limit: int) -> tuple[list[str], list[str]]:
        """The objects that pushing a commit brings to whoever has the commits ``without``.

        And apart the blobs of ``limit`` bytes or more.
        """
        asked = "".join(f"{one}\n" for one in (commit, *(f"^{head}" for head in without)))
        options = (
            "--objects",
            "--no-object-names",
            f"--filter=blob:limit={limit}",
            "--filter-print-omitted",
            "--stdin",
        )
        told = self.git("rev-list", *options, stdin=asked.encode()).text.split()
        return [one for one in told if one[0] != "~"], [one[1:] for one in told if one[0] == "~"]

    def small_objects(
        self, object_ids: Iterable[str], limit: int, kinds: Collection[str] = ("blob",)
    ) -> dict[str, bytes]:
        """The bytes of those of the objects that are of these ``kinds`` and have at most ``limit`` bytes."""
        asked = "".join(f"{one}\n" for one in sorted(set(object_ids))).encode()
        if not asked:
            return {}
        checked = self.git("cat-file", "--batch-check", stdin=asked).text.splitlines()
        parts = [line.split(" ") for line in checked]
        small = [part[0] for part in parts if len(part) == 3 and part[1] in kinds and int(part[2]) <= limit]
        packed = self.git("cat-file", "--batch", stdin="".join(f"{one}\n" for one in small).encode()).stdout
        found: dict[str, bytes] = {}
        position = 0
        for one in small:
            end = packed.index(b"\n", position)
            size = int(packed[position:end].split(b" ")[2])
            found[one] = packed[end + 1 : end + 1 + size]
            position = end + 1 + size + 1
        return found

    def refs_holding(self, commits: Sequence[str]) -> tuple[str, ...]:
        """The refs of this clone from which one of the commits can be reached."""
        known = [commit for commit in commits if self.resolve(commit)]
        if not known:
            return ()
        options = [f"--contains={commit}" for commit in known]
        return tuple(self.git("for-each-ref", "--format=%(refname)", *options).text.splitlines())

    def message_of(self, commit: str) -> str:
        """The whole message of a commit. Raises RepositoryError for what is none."""
        try:
            return self.git("log", "-1", "--format=%B", "--encoding=UTF-8", "--end-of-options", commit).text
        except ToolError as error:
            raise RepositoryError(f"{commit}: is not a commit here") from error

    def signed_commit(self, tree: str, parents: Sequence[str], message: str, who: str, when: str) -> str:
        """A commit of that tree by ``who``, signed with the SSH key of ``user.signingkey``; any number of parents.

        Raises RepositoryError when there is no key, or signing fails.
        """
        _, data = self.commit_text(tree, parents, message, who, when)
        head, _, body = data.partition(b"\n\n")
        signature = b"\n ".join(self._signature(data).rstrip(b"\n").split(b"\n"))
        return self.write_commit(head + b"\ngpgsig " + signature + b"\n\n" + body)

    def _signature(self, data: bytes) -> bytes:
        """What Git would put beside a commit: Git itself takes no more parents than fit on a command line."""
        key = self.git("config", "--type=path", "--get", "user.signingkey", allowed=(0, 1)).text.strip()
        if not key:
            raise RepositoryError("there is no key to sign with: set `git config user.signingkey` to your SSH key")
        program = self.config("gpg.ssh.program") or "ssh-keygen"
        with tempfile.TemporaryDirectory(prefix="cd4ml-sign-") as folder:
            payload = Path(folder) / "commit"
            payload.write_bytes(data)
            literal = key.removeprefix("key::")
            options = ["-f", key]
            if key.startswith(("key::", "ssh-")):  # the key itself: its secret half is with the agent
                (Path(folder) / "key.pub").write_text(literal + "\n", "utf-8")
                options = ["-U", "-f", str(Path(folder) / "key.pub")]
            try:
                run([program, "-Y", "sign", "-n", "git", *options, str(payload)], cwd=self.root, env=environment())
                return payload.with_suffix(".sig").read_bytes()
            except (ToolError, OSError) as error:
                told = last_line(error) if isinstance(error, ToolError) else str(error)
                raise RepositoryError(f"user.signingkey cannot sign: {told}") from error

    def signed_by_one_of(self, commit: str, keys: Sequence[str]) -> bool:
        """Is there a sound SSH signature of the commit by one of these public keys?

        No setting of the user or the repository has a say in it.
        """
        header = self.git("cat-file", "commit", commit).text.partition("\n\n")[0]
        if _SSH_SIGNATURE not in header or not keys:  # any other kind is judged by settings and keyrings
            return False
        with tempfile.TemporaryDirectory(prefix="cd4ml-signers-") as folder:
            signers = Path(folder) / "allowed"
            lines = (f'signer{number} namespaces="git" {key}\n' for number, key in enumerate(keys))
            with naming(signers):
                signers.write_text("".join(lines), "utf-8")
            settings: Mapping[str, str] = {
                "gpg.format": "ssh",
                "gpg.minTrustLevel": "fully",
                "gpg.program": "false",
                "gpg.ssh.allowedSignersFile": str(signers),
                "gpg.ssh.program": "ssh-keygen",
                "gpg.ssh.revocationFile": os.devnull,
            }
            options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
            done = self.git(*options, "verify-commit", commit, env=NO_SETTINGS, allowed=(0, 1, 128))
            return done.returncode == 0
