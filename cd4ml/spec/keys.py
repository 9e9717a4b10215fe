"""What every key of the configuration means, by its place: ``docs/configuration.md`` is made from it.

A place writes ``NAME`` for a name that the project chooses and ``[]`` for an entry of a list. Types and defaults
are not said here: they are what ``parse`` asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "": "Root",
        "data": "Where the tables come from, and what is predicted.",
        "validation": "What the joined table must meet before anything is trained on it.",
        "split": "Which rows are for training, which for tuning, and which for the verdict.",
        "features": "Which columns the model sees, and as what.",
        "model": "What is trained.",
        "evaluation": "How it is measured, by the judge, on the validation and the test side.",
        "stages": "The project's own stages, by name; may be left out.",
        "promotion": "What counts as better. Only main's counts.",
        "ci": "What the workflow is rendered for. Only main's counts.",
        "executor": "How runs are carried out; never changes a result. Only main's counts.",
    }
)
"""The groups in the order of the page, and what each is about."""

BASE_ONLY = frozenset({"allowed_packages", "experiments", "index", "promotion", "ci", "executor"})
"""Top-level keys of which only the base branch's value counts."""

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "name": "name of the experiment; set by `cd4ml new`",
        "hypothesis": "what you expect, and why",
        "tags": "free labels",
        "seed": "becomes the `random_state` of every estimator that leaves it open",
        "code": "the project's own Python code; the Git trees under these paths are digested",
        "environment": "",
        "environment.lock": (
            'the lock file of the environment (`""` for none); its entries are digested, without cd4ml'
        ),
        "environment.venv": (
            "whether a run whose lock is not what is installed gets an environment of its own, made by pip "
            "from the lock and kept by digest; otherwise it is refused. Only main's counts"
        ),
        "allowed_packages": "whose classes `_target_` may name, and whose functions a metric",
        "experiments": "",
        "experiments.branches": "which branches are experiments",
        "experiments.rerun_on": (
            "which of `spec`, `code`, `data`, `pipeline`, `env` make a run necessary when they move"
        ),
        "experiments.retries": "how often a run that was killed, starved or cut off is tried again",
        "index": "",
        "index.let_go": (
            "filters in the language of `cd4ml search`, such as `lifecycle = 'discarded' and age > 180d`: `cd4ml gc` "
            "may free the artefacts of a run that matches one; its record stays"
        ),
        "index.erasers": "who may erase from the history of the index (`cd4ml forget --purge`)",
        "index.erasers[].name": "`Name <address>`, for people",
        "index.erasers[].key": "the public SSH key that the erasure is signed with: `ssh-ed25519 AAAA…`",
        "data.sources": "the tables by name; the first is the main one",
        "data.sources.NAME.location": (
            "where `cd4ml data update` reads the table: a path in the repository, a URL that an installed "
            "fsspec filesystem reads, `package://NAME/PATH`, or with `format: sql` a SQLAlchemy URL; never "
            "with credentials"
        ),
        "data.sources.NAME.format": "compression follows the name of the file",
        "data.sources.NAME.query": "with `format: sql`: the SELECT to read",
        "data.sources.NAME.delimiter": "with `format: csv`: what stands between cells",
        "data.sources.NAME.decimal": (
            "with `format: csv`: what stands before the fraction of a number, `.` or `,`, and not between cells, too. "
            "Nothing may stand between thousands, and with a comma no number has a point: a column with one is text"
        ),
        "data.sources.NAME.missing": (
            "with `format: csv`: words for a cell that holds nothing, beside an empty one and `NA`, `N/A`, `NaN`, "
            "`nan`, `NULL`, `null`, `<NA>`; quoted or not, the whole cell says so to the letter. At most 50 of 100 "
            "characters; in any order they say the same"
        ),
        "data.joins": "left joins onto the main table, in order",
        "data.joins[].source": "name of the source to join",
        "data.joins[].on": "the key; must be unique in the joined source",
        "data.joins[].columns": "what the join adds",
        "data.joins[].prefix": "put before the names of the added columns",
        "data.target": "the column that is predicted",
        "data.time_columns": "columns read as UTC timestamps: ISO 8601 text unless `time_formats` says otherwise",
        "data.time_formats": "formats by column",
        "data.time_formats.NAME": "a strptime format, such as `%d/%m/%Y`",
        "data.drop_missing_target": "rows without a target: dropped and counted, or an error",
        "validation.suite": "name of the suite",
        "validation.expectations": "what is expected, each by itself",
        "validation.expectations[].type": "a declarative Great Expectations type: [which](expectations.md)",
        "validation.expectations[].kwargs": (
            "its arguments; `row_condition` and `condition_parser` are refused, since they are run as code"
        ),
        "validation.expectations[].severity": "critical rejects the data, warning only reports",
        "split.method": (
            "`random`: by a digest of each row, so that it stays on its side when rows are added · "
            "`stratified`: the same shares of each value of `column` · `group`: no value of `column` on two "
            "sides · `time`: by a time column · `predefined`: a column says the side"
        ),
        "split.column": "what the method looks at; not for `random`",
        "split.validation": "share of the rows for validation; for `random`, `stratified`, `group`",
        "split.test": "share of the rows for the test side; for `random`, `stratified`, `group`",
        "split.seed": "another seed parts the rows otherwise; for `random`, `stratified`, `group`",
        "split.validation_from": "train is before it; for `time`",
        "split.test_from": "validation is before it, test from there on; for `time`",
        "split.values": "what the column says for each side; for `predefined`. Left out: the sides' own names",
        "split.values.train": "words for the training side",
        "split.values.validation": "words for the validation side",
        "split.values.test": "words for the test side",
        "features.numeric": "numbers, handed over as they are",
        "features.categorical": "categories",
        "features.calendar": "parts of time columns, by column; each part is one numeric feature `COLUMN_PART`",
        "features.calendar.NAME": "of `month`, `day`, `dayofweek`, `hour`, `minute`",
        "features.text": 'text, missing as `""`, for a vectoriser in the model\'s pipeline',
        "model.name": "for people and searches",
        "model.parameters": (
            "named values that the estimator refers to as `${model.parameters.NAME}`, so that an override "
            "reaches what lies inside a list"
        ),
        "model.estimator": (
            "a mapping with `_target_`, a class that follows the scikit-learn estimator protocol, and its "
            "parameters; further such mappings inside. A parameter that the class does not take is refused"
        ),
        "evaluation.task": "what kind of target it is",
        "evaluation.metrics": "METRICS",
        "evaluation.primary": "the one of them that ranks",
        "evaluation.positive": 'binary: the class that counts as positive (`""`: the later in sorted order)',
        "evaluation.own": "metrics of the project, by name; computed with main's code",
        "evaluation.own.NAME.function": "dotted name of a public function `(observed, predicted) -> float`",
        "evaluation.own.NAME.direction": "which way is better",
        "evaluation.own.NAME.needs": "what `predicted` is: numbers or classes, or probabilities",
        "evaluation.slices": "columns for each of whose values the metrics are computed too",
        "evaluation.permutation_importance": "how often each feature is shuffled to see what the model loses; 0: never",
        "stages": "",
        "stages.NAME.run": (
            "a mapping with `_target_`, a public class with a method `run(inputs, outputs)`, and its parameters"
        ),
        "stages.NAME.deps": "what it reads: outputs of earlier stages by path",
        "stages.NAME.outs": "what it writes: names of files under `artifacts/NAME/`; not with `feeds: features`",
        "stages.NAME.feeds": (
            "`features`: it writes `train.parquet`, `validation.parquet` and `test.parquet`, whose columns "
            "the model gets too"
        ),
        "promotion.min_improvement": (
            "by how much the primary metric must be better on the test side for `diff` to say *better*, and for its "
            "gate; negative, the gate asks for no more than a gain that is more than chance"
        ),
        "promotion.require": (
            "`better`: the gain in the primary metric is more than chance, and `min_improvement` at least · "
            "`not worse`: a loss of more than `margin` can be ruled out"
        ),
        "promotion.margin": "with `not worse`: a loss that does not matter, in units of the primary metric; above 0",
        "promotion.min_rows": "test rows that both models must be scored on; with fewer nothing is comparable",
        "promotion.min_share": (
            "share of the base branch's test side that both models must be scored on, 1 at most (null: 0.9); with less "
            "nothing is comparable"
        ),
        "promotion.confidence": "of every interval in a report: from 0.5, and less than 1 (null: 0.95)",
        "promotion.resamples": "how often the bootstrap draws",
        "promotion.resample_by": (
            "column by whose values the bootstrap draws rows together, where they depend on each other, such as a day "
            "(empty: each row by itself)"
        ),
        "promotion.max_worsening": "by metric, how much worse it may get on the test side, in its own units",
        "promotion.max_worsening.NAME": "of the metric of this name",
        "promotion.slices": "what a slice that got significantly worse does to the gates",
        "promotion.expectations": "what a failed expectation of severity warning does to the gates",
        "promotion.max_training_seconds": "how long training may take",
        "promotion.max_model_bytes": "how large the stored model may be",
        "promotion.max_prediction_seconds": "how long the prediction of one row may take",
        "ci.provider": "whose workflow files are rendered, and where reports are posted",
        "ci.python": "Python version of the workflow",
        "ci.url": 'API of a forge of your own, without credentials (`""`: the public one, or what CI says of itself)',
        "ci.labels": "labels that a pull request gets by the verdict of its report",
        "ci.labels.NAME": (
            "a label, for one of `better`, `worse`, `no_real_difference`, `not_comparable`, `take_main_in`, `failed`, "
            "`pending`"
        ),
        "ci.fork_label": "the label that lets a fork's code run, without secrets and unrecorded (empty: none does)",
        "executor.threads": "OpenMP and BLAS threads of each run",
        "executor.jobs": "runs at the same time; `reconcile --jobs` wins",
        "executor.timeout_minutes": "per part of a run; what is longer is ended, and counts as a transient failure",
        "executor.memory_gib": (
            "GiB of memory that each stage, and the judge, may take; what wants more counts as a transient failure. "
            "With null the judge gets half of what is available, at least 2"
        ),
    }
)
"""What each key means; empty for one that only holds others."""
