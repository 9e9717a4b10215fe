"""Whether a commit is signed by one of some keys: that is for the keys alone to say, and for no setting."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cd4ml.errors import RepositoryError
from cd4ml.gateways.git import Repository, open_repository

WHO, WHEN = "Ada <ada@example.org>", "2026-11-03T10:00:00Z"
SAYS_GOOD = """#!/bin/sh
touch "{mark}"
print=0123456789ABCDEF0123456789ABCDEF01234567
echo "[GNUPG:] NEWSIG"
echo "[GNUPG:] GOODSIG 0123456789ABCDEF Ada <ada@example.org>"
echo "[GNUPG:] VALIDSIG $print 2026-11-03 0 0 4 0 1 8 01 $print"
echo "[GNUPG:] TRUST_ULTIMATE 0 pgp"
echo 'Good "git" signature for ada with ED25519 key SHA256:x'
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    subprocess.run(["git", "init", "--quiet", "here"], cwd=tmp_path, check=True)
    folder = tmp_path / "here"
    subprocess.run(["git", "commit", "--quiet", "--allow-empty", "--message", "x"], cwd=folder, check=True)
    return open_repository(folder)


def key(folder: Path, name: str) -> tuple[str, str]:
    """The path of a new SSH key, and its public half."""
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True)
    return str(path), path.with_suffix(".pub").read_text("utf-8").strip()


def setting(repository: Repository, name: str, value: str) -> None:
    subprocess.run(["git", "config", name, value], cwd=repository.root, check=True)


def signed(repository: Repository, secret: str) -> str:
    setting(repository, "user.signingkey", secret)
    return repository.signed_commit(repository.tree_of("HEAD"), (), "cd4ml: epoch 2\n", WHO, WHEN)


def unsigned_but_for(repository: Repository, kind: str) -> str:
    """A commit that carries a signature of that kind, which nobody made."""
    _, data = repository.commit_text(repository.tree_of("HEAD"), (), "cd4ml: epoch 2\n", WHO, WHEN)
    head, _, body = data.partition(b"\n\n")
    header = f"\ngpgsig -----BEGIN {kind}-----\n \n x\n -----END {kind}-----".encode()
    return repository.write_commit(head + header + b"\n\n" + body)


def test_one_of_the_keys_is_enough_and_another_key_is_none(repository: Repository, tmp_path: Path) -> None:
    (secret, mine), (_, other) = key(tmp_path, "mine"), key(tmp_path, "other")
    commit = signed(repository, secret)
    assert repository.signed_by_one_of(commit, [other, mine])
    assert not repository.signed_by_one_of(commit, [other])
    assert not repository.signed_by_one_of(commit, [])


def test_a_signature_over_other_bytes_is_none(repository: Repository, tmp_path: Path) -> None:
    secret, mine = key(tmp_path, "mine")
    data = repository.git("cat-file", "commit", signed(repository, secret)).stdout
    moved = repository.write_commit(data.replace(b"epoch 2", b"epoch 3"))
    assert not repository.signed_by_one_of(moved, [mine])


@pytest.mark.parametrize("kind", ["PGP SIGNATURE", "SIGNED MESSAGE", "SSH SIGNATURE"])
def test_no_setting_of_the_repository_makes_a_signature_good(repository: Repository, tmp_path: Path, kind: str) -> None:
    """A program that says so of whatever it is given, and a list of signers that has the forger on it."""
    _, mine = key(tmp_path, "mine")
    secret, forgers = key(tmp_path, "forger")
    program, mark, signers = tmp_path / "says-good", tmp_path / "was-run", tmp_path / "signers"
    program.write_text(SAYS_GOOD.format(mark=mark), "utf-8")
    program.chmod(0o755)
    signers.write_text(f"* {forgers}\n", "utf-8")
    forged = signed(repository, secret)
    for name in ("gpg.program", "gpg.openpgp.program", "gpg.x509.program", "gpg.ssh.program"):
        setting(repository, name, str(program))
    setting(repository, "gpg.ssh.allowedSignersFile", str(signers))
    setting(repository, "gpg.minTrustLevel", "undefined")
    assert not repository.signed_by_one_of(unsigned_but_for(repository, kind), [mine])
    assert not repository.signed_by_one_of(forged, [mine])
    assert not mark.exists(), "nor is such a program run"


def test_a_revocation_list_of_the_user_takes_no_signature_away(repository: Repository, tmp_path: Path) -> None:
    """All clones must come to the same answer: whose signature counts is said on the base branch alone."""
    secret, mine = key(tmp_path, "mine")
    commit = signed(repository, secret)
    (tmp_path / "revoked").write_text(mine + "\n", "utf-8")
    setting(repository, "gpg.ssh.revocationFile", str(tmp_path / "revoked"))
    assert repository.signed_by_one_of(commit, [mine])


def test_without_a_key_nothing_is_signed(repository: Repository) -> None:
    with pytest.raises(RepositoryError, match="there is no key to sign with"):
        repository.signed_commit(repository.tree_of("HEAD"), (), "x\n", WHO, WHEN)
