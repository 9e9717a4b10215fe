"""cd4ml: declarative GitOps for continuous delivery of machine learning.

A branch is an experiment; a reconciler runs what the branches ask for and writes what came out into an
index that lives in Git. The map of this house (a module imports only from lower-numbered levels)::

    cd4ml/
    ├── errors.py        the error tree, drawn at the top
    │                    ── functional core: values in, values out ──
    ├── spec/          1 WHAT A COMMIT ASKS FOR   experiment (frozen values, one per conf/ group) · sources (raw
    │                    YAML, checked) · reading, checks, parse (one section, one text, the whole) · keys (what each
    │                    means) · override · merge (three-way) · secrets · text · pin, columns (named, there?) ·
    │                    pipeline (the stages) · metrics · environment · determinism · canonical · fingerprint
    ├── render/        2 SPEC → TEXT              templates (one strict Jinja2 environment) · artifacts (template →
    │                    path), seal (its header), workflows (CI by provider) · lock (dvc.lock from what was verified)
    ├── index/         2 WHAT HAS HAPPENED        record · validate, shape · written, envelope · fold · history ·
    │                    rows · lineage · foreign (other tools' runs) · schemas/. Asked: fields, filter, query, words,
    │                    place, paths, instant, asked, grid, sql. Trusted: proven, chain (forged?), audit, promised,
    │                    rendered (verify), relied_on, claims, retention, removed, epoch (keep and forget)
    ├── plan/          3 DESIRED vs OBSERVED      state · standing · reason · lifecycle · action · diff → Plan
    ├── promotion/     3 CHALLENGER vs CHAMPION   compare (two), table (more) of configuration and inputs ·
    │                    leaderboard · summary (the index in short). The pull request: paired (what two said of the
    │                    same rows) · statistics_*, resample, student · judgement · gates · expected · relatives,
    │                    moved, story, release_tags · assemble → review (all that is told) · posting, addresses
    ├── report/        4 VALUES → TEXT, PLOTS     terminal · run, runs · compare, leaderboard, lineage · findings ·
    │                    keeping · page (the index branch's first) · configuration · layout · visible. A review:
    │                    document of verdict, in_sight, changes, sections · markup (escapes) → markdown, html_page,
    │                    review (terminal) · plots_*
    │                    ── what runs inside a DVC stage ──
    ├── stages/        4 ingest · validate · split · featurize · train · predict · explain · evaluate · own (the
    │                    project's): read files, call pure functions, write files. Of data: table, csv_table; parquet (a
    │                    stranger's); expectations, data_docs; split_methods. Of models: targets, estimators,
    │                    early_stopping, models (canonical skops). Of numbers: scores, slices, plots.
    │                    lookup (a row's side). runner, job, own_code, guard, time_limit
    │                    ── effects ──
    ├── gateways/      4 ONE DOOR PER OUTSIDE SYSTEM, decides nothing: process · git/ (connection, objects, trees,
    │                    tree_changes, history, remote, work_tree, landed, compare, chain, integrity, keeping, probe,
    │                    reports) · hydra · dvc, dvc_experiments · mlflow · store, store_*, memo, sqlite_file (SQLite) ·
    │                    envelopes · sources, database (raw data) · forge/ (GitHub, GitLab) · files · untrusted · warm
    ├── controller/    5 THE VERBS, in rooms: a module imports only from its own room and from those above it (reporting
    │   │                and editing not from each other; nor do ci, care and starting). At the door: project
    │   ├── desired/       what commits ask for: data (pins) · specs, heads · scaffold (what the package brings), render
    │   ├── running/       run (execute, have judged) · judge · stage, tasks, events · environment · warm,
    │   │                  lingering (the warm process, for a command and beyond)
    │   ├── landing/       into the index: land · landed · fold · trust, epochs, erased, removals · imports · drafts,
    │   │                  labels (until then)
    │   ├── reconciling/   observe, gone, lifecycles · claims · apply, reconcile
    │   ├── history/       of the index: search · compare · lineage · objects, models (stored outputs) · reproduce
    │   ├── reporting/     report · champions · evidence (columns, observed) · movement · kin · policy · post,
    │   │                  publish_report
    │   ├── editing/       experiments (open one, note) · edit (run the work tree) · update, merge (take the base in)
    │   ├── ci/            parts (of a run, as jobs), bundle, bundles, vouched · check, unverified (a fork's)
    │   ├── care/          doctor/ · verify (landed_facts, stored), repair, restore · inventory, keep (gc), erase
    │   │                  (forget)
    │   └── starting/      init · own_data, proposal, proposed_* (a project for one's own table)
    ├── cli/           6 arguments, exit codes, tables; one short function per verb
    └── api.py         6 the same for notebooks and scripts: run, load_spec, search, load_model
    conf/                Hydra groups; each group mirrors a value in spec/
    templates/           Jinja2: dvc.yaml, the CI of GitHub and GitLab
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, without importing it
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

_IN_API = ("RunResult", "load_model", "load_spec", "run", "search")


def __getattr__(name: str) -> Any:
    """The Python interface, brought in when it is first asked for, so that ``import cd4ml`` costs nothing."""
    if name in _IN_API:
        import importlib

        return getattr(importlib.import_module("cd4ml.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted((*globals(), *_IN_API))
