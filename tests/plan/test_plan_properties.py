"""What holds for every history: plans converge, repeat, ignore order, and keep branches apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cd4ml.errors import Problem
from cd4ml.index.history import History
from cd4ml.index.record import Entry, ExperimentRecord, RunRecord
from cd4ml.plan.action import Plan, Run
from cd4ml.plan.diff import diff
from cd4ml.plan.state import DesiredState, Experiment
from cd4ml.spec.fingerprint import Components
from tests.plan.plan_world import POLICY, Outcome, apply, asks, components, desired, entry, hexes, plan_of, settle

PROBLEM = Problem("conf/config.yaml", "seed", "must be a whole number")
WORDS = st.sampled_from(["1", "2"])
BRANCHES = [f"exp/{letter}" for letter in "abcd"]


@st.composite
def some_components(draw: st.DrawFn) -> Components:
    return components(spec=draw(WORDS), code="c", data=draw(WORDS), pipeline="p", env=draw(WORDS))


@st.composite
def some_experiment(draw: st.DrawFn, branch: str) -> Experiment:
    if draw(st.integers(0, 5)) == 0:
        return asks(branch, None, problems=(PROBLEM,))
    head = draw(some_components())
    shape = draw(st.sampled_from(["clean", "conflict", "refused merge"]))
    if branch == "main":
        return asks(branch, head)
    if shape == "conflict":
        return asks(branch, head, conflicts=("conf/config.yaml",))
    if shape == "refused merge":
        return asks(branch, head, merge_problems=(PROBLEM,))
    return asks(branch, head, draw(some_components()), ancestor_of_base=draw(st.booleans()))


@st.composite
def some_state(draw: st.DrawFn) -> DesiredState:
    branches = draw(st.lists(st.sampled_from(BRANCHES), unique=True))
    experiments = [draw(some_experiment(branch)) for branch in ["main", *branches]]
    prints = {main.head.fingerprint for main in experiments[:1] if main.head.fingerprint}
    return DesiredState("main", tuple(draw(st.permutations(experiments))), frozenset(prints))


def ends_by_fingerprint(salt: str) -> Callable[[Run], Outcome]:
    """A third of all fingerprints fails for good; which ones depends on ``salt``."""

    def outcome(run: Run) -> Outcome:
        bad = int(hexes(salt + str(run.target.fingerprint)), 16) % 3 == 0
        return ("deterministic", "train", "diverged") if bad else None

    return outcome


@settings(deadline=None)
@given(some_state(), some_state(), st.text("ab", max_size=4))
def test_a_plan_is_at_most_two_further_plans_from_an_empty_one(
    first: DesiredState, second: DesiredState, salt: str
) -> None:
    outcome = ends_by_fingerprint(salt)
    known = settle(first, outcome=outcome, rounds=3)
    settle(second, known, outcome, rounds=3)


@settings(deadline=None)
@given(some_state(), some_state(), st.text("ab", max_size=4), st.integers(0, 6), st.randoms(use_true_random=False))
def test_a_plan_depends_on_nothing_but_what_is_asked_and_known(
    first: DesiredState, second: DesiredState, salt: str, cut: int, random: Any
) -> None:
    known = apply(diff(first, History.of([]), POLICY), [], ends_by_fingerprint(salt), only=cut)
    plan = plan_of(second, known)
    experiments, entries = list(second.experiments), [*known, *known]
    random.shuffle(experiments)
    random.shuffle(entries)
    assert plan_of(replace(second, experiments=tuple(experiments)), entries) == plan
    assert plan.items[0].branch == "main"


def actions(plan: Plan) -> set[tuple[str, str]]:
    return {
        (action.branch, f"run {action.target.side} {action.target.commit}" if isinstance(action, Run) else "record")
        for action in plan.actions
    }


@settings(deadline=None)
@given(some_state(), st.text("ab", max_size=4), st.sampled_from(["refused", "failed", "conflict", "nameless"]))
def test_one_bad_branch_takes_no_action_from_another(state: DesiredState, salt: str, kind: str) -> None:
    """The bad branch sorts before the others, so that it would be in their way if it could."""
    known = apply(plan_of(state), [], ends_by_fingerprint(salt))
    own = components(spec="of the bad branch alone")
    bad = {
        "refused": asks("exp/!", None, problems=(PROBLEM,)),
        "failed": asks("exp/!", own, own),
        "conflict": asks("exp/!", own, conflicts=("dvc.yaml",)),
        "nameless": asks("exp/!" + "x" * 300, own, own),
    }[kind]
    beside = replace(state, experiments=(*state.experiments, bad))
    for entries in ([], known):
        kept = {action for action in actions(plan_of(beside, entries)) if action[0] != bad.branch}
        assert kept == actions(plan_of(state, entries))


class Reconciling(RuleBasedStateMachine):
    """People push, merge, delete and note; runs end in any way; reconcilers stop half-way. It settles each time."""

    @initialize()
    def start(self) -> None:
        self.main = components()
        self.main_commit = 0
        self.base_fingerprints = {self.main.fingerprint}
        self.base_commits: set[str] = set()
        self.heads: dict[str, Components] = {}
        self.forks: dict[str, Components] = {}
        self.marks: dict[str, str] = {}
        self.known: list[Entry] = []
        self.counter = 0

    def merge_of(self, branch: str) -> Components:
        """Three-way, component by component: what the branch changed, else what the base branch has."""
        head, fork, base = (asdict(parts) for parts in (self.heads[branch], self.forks[branch], self.main))
        return Components(**{key: head[key] if head[key] != fork[key] else base[key] for key in head})

    def commit_of(self, branch: str) -> str:
        return f"{branch} {self.heads[branch].fingerprint}"

    def asked(self, branch: str) -> Experiment:
        mark, commit = self.marks.get(branch, ""), self.commit_of(branch)
        contained = hexes(commit, 40) in self.base_commits
        if mark == "refused":
            return asks(branch, None, commit=commit + mark, problems=(PROBLEM,))
        if mark == "conflict" and not contained:
            return asks(branch, self.heads[branch], commit=commit, conflicts=("dvc.yaml",))
        return asks(branch, self.heads[branch], self.merge_of(branch), commit=commit, ancestor_of_base=contained)

    @property
    def state(self) -> DesiredState:
        return desired(
            asks("main", self.main, commit=f"main {self.main_commit}"),
            *(self.asked(branch) for branch in self.heads),
            base_fingerprints=frozenset(self.base_fingerprints),
            base_commits=frozenset(self.base_commits),
            base_first_parents=frozenset(hexes(f"main {number}", 40) for number in range(self.main_commit + 1)),
        )

    def outcome(self, run: Run) -> Outcome:
        self.counter += 1
        number = int(hexes(f"{run.target.fingerprint}"), 16)
        if number % 5 == 0:
            return ("deterministic", "validate", "rows are missing")
        killed = int(hexes(f"{self.counter}"), 16) % 4 == 0
        return ("transient", "train", "killed") if killed else None

    def move_main(self, parts: Components) -> None:
        self.main = parts
        self.main_commit += 1
        self.base_fingerprints.add(parts.fingerprint)

    @rule(branch=st.sampled_from(BRANCHES), parts=some_components())
    def push(self, branch: str, parts: Components) -> None:
        self.forks.setdefault(branch, self.main)
        self.heads[branch] = parts

    @rule(branch=st.sampled_from(BRANCHES))
    def open_at_main(self, branch: str) -> None:
        self.forks[branch] = self.heads[branch] = self.main

    @rule(parts=some_components())
    def push_to_main(self, parts: Components) -> None:
        self.move_main(parts)

    @precondition(lambda self: self.heads)
    @rule(data=st.data(), mark=st.sampled_from(["", "refused", "conflict"]))
    def break_or_mend(self, data: st.DataObject, mark: str) -> None:
        self.marks[data.draw(st.sampled_from(sorted(self.heads)))] = mark

    @precondition(lambda self: self.heads)
    @rule(data=st.data(), squash=st.booleans())
    def merge(self, data: st.DataObject, squash: bool) -> None:
        branch = data.draw(st.sampled_from(sorted(self.heads)))
        if not squash:
            self.base_commits.add(hexes(self.commit_of(branch), 40))
        self.move_main(self.merge_of(branch))

    @precondition(lambda self: self.heads)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        branch = data.draw(st.sampled_from(sorted(self.heads)))
        for kept in (self.heads, self.forks):
            del kept[branch]
        self.marks.pop(branch, None)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), conclusion=st.text("ab", min_size=1, max_size=3))
    def note(self, data: st.DataObject, conclusion: str) -> None:
        bodies = [one.record.body for one in self.known if isinstance(one.record, ExperimentRecord)]
        if bodies:
            body = {**data.draw(st.sampled_from(bodies)), "conclusion": conclusion}
            del body["id"], body["schema"]
            self.known.append(entry(body, max(one.fold for one in self.known) + 1))

    @rule(cut=st.integers(0, 5))
    def reconcile_half_way(self, cut: int) -> None:
        self.known = apply(plan_of(self.state, self.known), self.known, self.outcome, only=cut)

    @rule()
    def reconcile(self) -> None:
        """Three plans, and one more for each further try of a head and then of its merge result."""
        self.known = settle(self.state, self.known, self.outcome, rounds=3 + 2 * POLICY.retries)
        for item in plan_of(self.state, self.known).items:
            assert item.sync in ("Synced", "Unknown")
            assert item.health in ("Healthy", "Degraded", "Unknown")
            assert item.lifecycle == "merged" or item.is_base or item.commit not in self.base_commits

    @invariant()
    def nobody_succeeds_twice(self) -> None:
        """One machine, one result a fingerprint: no plan asks for what is known."""
        won = [
            one.record.fingerprint for one in self.known if isinstance(one.record, RunRecord) and one.record.succeeded
        ]
        assert len(won) == len(set(won))

    @invariant()
    def every_branch_has_one_item_with_a_reason(self) -> None:
        plan = plan_of(self.state, self.known)
        branches = [item.branch for item in plan.items]
        assert branches[0] == "main"
        assert len(branches) == len(set(branches))
        assert set(self.heads) <= set(branches)
        assert all(item.reason and "\n" not in item.reason for item in plan.items)


TestReconciling = Reconciling.TestCase
TestReconciling.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
