"""cd4ml: declarative GitOps for continuous delivery of machine learning.

A branch is an experiment; a reconciler runs what the branches ask for and writes what came out into an
index that lives in Git. The map of this house (a module imports only from lower-numbered levels)::

    cd4ml/
    ├── errors.py        the error tree, drawn at the top
    │                    ── functional core: values in, values out ──
    ├── spec/          1 WHAT A COMMIT ASKS FOR   experiment (frozen values, one per conf/ group) · sources (raw
    │                    YAML, checked) · parse · override · secrets · text · pin · pipeline (the stages) · metrics ·
    │                    environment · canonical · fingerprint
    ├── render/        2 SPEC → TEXT              templates (one strict Jinja2 environment) · artifacts (template →
    │                    path) · lock (dvc.lock from what was verified)
    ├── index/         2 WHAT HAS HAPPENED        record · validate · fold · history · rows · filter, query (filter
    │                    language → SQL) · schemas/
    ├── plan/          3 DESIRED vs OBSERVED      state · standing · reason · lifecycle · action · diff → Plan
    ├── promotion/     3 CHALLENGER vs CHAMPION   compare
    ├── report/        4 VALUES → TEXT            terminal · configuration · visible
    │                    ── what runs inside a DVC stage ──
    ├── stages/        4 ingest · validate · split · featurize · train · predict · evaluate: read files, call pure
    │                    functions, write files; table, estimators, models (canonical skops), runner
    │                    ── effects ──
    ├── gateways/      4 ONE DOOR PER OUTSIDE SYSTEM, decides nothing: process · git · hydra · dvc · store (SQLite) ·
    │                    sources (raw data) · files · untrusted · warm
    ├── controller/    5 THE VERBS  project · specs · observe · landed · run (execute, judge, land) · judge · land ·
    │                    reconcile · reproduce · experiments · data · stage · render · init · warm
    └── cli/           6 arguments, exit codes, tables; one short function per verb
    conf/                Hydra groups; each group mirrors a value in spec/
    templates/           Jinja2: dvc.yaml, the CI workflow
"""

__version__ = "0.1.0"
