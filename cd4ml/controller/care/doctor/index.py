"""The index, and how what is rendered, locked and committed stands to it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cd4ml.controller.care.doctor.finding import Finding, Level, Subject
from cd4ml.controller.desired.render import check_rendered
from cd4ml.controller.desired.specs import asked_of
from cd4ml.controller.landing.landed import read_landed
from cd4ml.controller.landing.trust import warning
from cd4ml.controller.running.environment import environment_differences
from cd4ml.errors import ConfigError, IntegrityError
from cd4ml.gateways.git import CLAIMS
from cd4ml.index.claims import LARGEST_CLAIM, parse_claim
from cd4ml.index.fold import check_landed, names_record
from cd4ml.index.validate import NewerSchemaError

_OLD = timedelta(days=1)
_AHEAD = timedelta(minutes=5)
_LOOKED_AT = 200
_SHOWN = 3


def trusted(subject: Subject) -> Iterator[Finding]:
    """Does the remote's index follow from what this clone remembers?"""
    if subject.look is None:
        return
    if subject.look.findings:
        yield Finding(Level.PROBLEM, "index", warning(subject.project, subject.look), "cd4ml restore")
    elif subject.look.state.index is None:
        yield Finding(Level.NOTE, "index", f"{subject.remote_name} has no index yet", "cd4ml reconcile")
    else:
        tip = subject.look.state.index[:12]
        yield Finding(Level.OK, "index", f"the index at {tip} follows from what this clone remembers")


def unfolded(subject: Subject) -> Iterator[Finding]:
    """Records that have landed and wait, or that no fold takes."""
    landing = sorted(subject.look.state.landing.items()) if subject.look else []
    foreign = [ref for ref, _ in landing if not names_record(ref)]
    waiting = 0
    refused = [f"{ref} is not the name of a record" for ref in foreign]
    for ref, commit in [one for one in landing if names_record(one[0])][:_LOOKED_AT]:
        try:
            check_landed(read_landed(subject.project, ref, commit))
            waiting += 1
        except NewerSchemaError:
            message = f"{ref}: a later version's record waits for a later version's fold"
            yield Finding(Level.NOTE, "landed", message, "pip install --upgrade cd4ml")
        except IntegrityError as error:
            refused.append(f"{ref} is no record, and no fold takes it: {error}")
    cure = "cd4ml restore  # offers to drop them, and names each"
    yield from (Finding(Level.WARNING, "landed", one, cure) for one in refused[:_SHOWN])
    if len(refused) > _SHOWN:
        message = f"{len(refused) - _SHOWN} more landing refs that no fold takes"
        yield Finding(Level.WARNING, "landed", message, cure)
    if waiting:
        message = f"{waiting} landed record{'s' * (waiting != 1)} count, and wait to be folded"
        yield Finding(Level.NOTE, "landed", message, "cd4ml reconcile")


def claims(subject: Subject) -> Iterator[Finding]:
    """Claims on runs that reconcilers which are gone have left."""
    found = subject.look.state.claims if subject.look else {}
    old = []
    for ref, blob in sorted(found.items()):
        claim = parse_claim(ref, subject.project.repository.read_object(blob, LARGEST_CLAIM))
        since = _instant(claim.since) if claim else None
        if since is None or datetime.now(UTC) - since > _OLD:
            old.append(ref)
    if old:
        message = f"{len(old)} claims are older than a day, {CLAIMS}{old[0].removeprefix(CLAIMS)[:12]}… for one"
        yield Finding(Level.NOTE, "claims", message, "cd4ml reconcile  # drops those that nobody holds")


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def clock(subject: Subject) -> Iterator[Finding]:
    """Nothing is ordered by clocks; people are misled by them all the same."""
    if subject.look is None:
        return
    state = subject.look.state
    newest = [commit for commit in (state.index, *[*state.landing.values()][:1]) if commit]
    for commit in newest:
        written = datetime.fromisoformat(subject.project.repository.commit_info(commit).committed)
        ahead = written - datetime.now(UTC)
        if ahead > _AHEAD:
            message = f"{commit[:12]} was recorded {ahead.total_seconds() / 60:.0f} minutes from now, by this clock"
            yield Finding(Level.WARNING, "clock", message, "timedatectl set-ntp true  # here, or where it was recorded")


def rendered(subject: Subject) -> Iterator[Finding]:
    """Are the committed files what templates and configuration give?"""
    if subject.project.repository.work_tree is None:
        return
    problems = check_rendered(subject.project)
    yield from (Finding(Level.WARNING, "rendered", str(problem), "cd4ml render") for problem in problems)
    if not problems:
        yield Finding(Level.OK, "rendered", "the rendered files are as conf/ and templates give them")


def environment(subject: Subject) -> Iterator[Finding]:
    """Is what is installed here what the base branch's lock names?"""
    if subject.base_commit is None:
        return
    try:
        asked = asked_of(subject.project, subject.base_commit)
    except ConfigError as error:
        for line in str(error).splitlines():
            yield Finding(Level.PROBLEM, "configuration", f"{subject.project.base}: {line}", "cd4ml config")
        return
    moved = environment_differences(asked.lock)
    if not moved:
        yield Finding(Level.OK, "environment", f"what is installed is what {asked.spec.lock or 'the lock'} names")
        return
    more = f" (+{len(moved) - _SHOWN} more)" if len(moved) > _SHOWN else ""
    level = Level.NOTE if asked.spec.venv else Level.WARNING
    told = f"{asked.spec.lock}: is not what is installed: {'; '.join(moved[:_SHOWN])}{more}"
    yield Finding(level, "environment", told, f"pip install -r {asked.spec.lock}")
