"""From the resolved mapping to the frozen ``Spec``, strictly, with every problem at once.

Nothing is guessed: a missing, misspelt or mistyped key is a problem, a truth value is no number, and a
problem names the file that the value came from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from cd4ml.errors import ConfigError
from cd4ml.spec.checks import (
    MAX_MISSING_WORDS,
    code_path,
    database,
    decimal_mark,
    hypothesis,
    inside,
    instant,
    label,
    location,
    longer,
    matching,
    missing_word,
    nearest,
    not_empty,
    one_character,
    one_line_text,
    one_of,
    package,
    select,
    short,
    short_label,
    shown,
    timestamp,
)
from cd4ml.spec.experiment import (
    VERDICTS,
    CiSpec,
    DataSpec,
    EraserSpec,
    EvaluationSpec,
    ExecutorSpec,
    ExpectationSpec,
    ExperimentsPolicy,
    FeaturesSpec,
    IndexPolicy,
    JoinSpec,
    ModelSpec,
    OwnMetricSpec,
    OwnStageSpec,
    PromotionSpec,
    SourceSpec,
    Spec,
    SplitSpec,
    ValidationSpec,
)
from cd4ml.spec.fingerprint import COMPONENTS
from cd4ml.spec.metrics import METRICS_BY_NAME, TASKS, metrics_of
from cd4ml.spec.pipeline import SIDES, STAGE_NAMES, Pipeline, stages
from cd4ml.spec.reading import Asked, Report, Section

SOURCE_FORMATS = ("csv", "parquet", "sql")
CSV_KEYS = ("delimiter", "decimal", "missing")
SPLIT_KEYS = ("column", "validation", "test", "seed", "validation_from", "test_from", "values")
CALENDAR_PARTS = ("month", "day", "dayofweek", "hour", "minute")
TARGET = "_target_"

_SAFE_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+")
_EXPECTATION = re.compile(r"(?=.{1,200}\Z)expect_[a-z0-9]+(_[a-z0-9]+)*")
_BRANCHES = re.compile(r"[A-Za-z0-9*][A-Za-z0-9._/*-]*")
_METRIC_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_FILE = re.compile(r"(?!.*\.dvc\Z)(?!dvc\.(yaml|lock)\Z)[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_NOT_ONE_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PERSON = re.compile(r"[^<>\x00-\x1f\x7f-\x9f\u2028\u2029]{1,200} <[^<>\s]{1,200}>")
_PUBLIC_KEY = re.compile(
    r"(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp(?:256|384|521)|sk-(?:ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)"
    r" [A-Za-z0-9+/]{40,2000}={0,2}(?: [^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,200})?"
)
_PYTHON = re.compile(r"3\.[0-9]{1,2}")
_API_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")
_LABEL = re.compile(r"|[A-Za-z0-9][A-Za-z0-9 ._:/+-]{0,49}")


def parse(resolved: Mapping[str, Any], origin: Mapping[str, str] | None = None) -> Spec:
    """The checked value of a resolved configuration (plain JSON values, as ``gateways.hydra.compose`` gives).

    ``origin`` maps dotted leaf paths to the file each was written in; without it problems name ``conf/``.
    What is accepted can be recorded: text without control characters, integers of 64 bits, and a size, a depth
    and a number of values that leave room in a record. Raises ConfigError with all problems found.
    """
    spec, report = _read(resolved, origin or {})
    if not report.problems:
        _check_columns(spec, report)
        _check_own_stages(spec, report)
        _check_gates(spec, report)
    if report.problems:
        raise ConfigError(report.problems)
    return spec


def asked_of(resolved: Mapping[str, Any]) -> Mapping[str, Asked]:
    """Every key that ``parse`` asks for when it reads this configuration, by its place (see ``Report.asked``)."""
    return _read(resolved, {})[1].asked


def _read(resolved: Mapping[str, Any], origin: Mapping[str, str]) -> tuple[Spec, Report]:
    """The spec, which counts only where no problem was reported, and the report."""
    report = Report(origin)
    report.check_extent(resolved)
    report.check_plain(dict(resolved), ())
    report.check_size(dict(resolved))
    root = Section(dict(resolved), (), report)
    environment = root.section("environment", _environment)
    spec = Spec(
        name=root.text("name", short_label),
        hypothesis=root.text("hypothesis", hypothesis),
        tags=root.texts("tags", short, unique=True, at_most=100),
        seed=root.integer("seed", 0, 2**32 - 1),
        code=root.texts("code", code_path, unique=True),
        lock=environment[0],
        venv=environment[1],
        allowed_packages=root.texts("allowed_packages", package, unique=True),
        data=root.section("data", _data),
        validation=root.section("validation", _validation),
        split=root.section("split", _split),
        features=root.section("features", _features),
        model=root.section("model", _model),
        evaluation=root.section("evaluation", _evaluation),
        promotion=root.section("promotion", _promotion),
        ci=root.section("ci", _ci),
        executor=root.section("executor", _executor),
        experiments=root.section("experiments", _experiments),
        resolved=resolved,
        stages=_own_stages(root),
        index=root.section("index", _index, optional=True),
    )
    root.finish()
    return spec, report


# --- groups -----------------------------------------------------------------------------------------


def _environment(section: Section) -> tuple[str, bool]:
    lock = section.text("lock", lambda text: inside(text) if text else None)
    return lock, section.flag("venv", default=False)


def _data(section: Section) -> DataSpec:
    named = section.sections("sources", _source)
    for name in named:
        if not _SAFE_NAME.fullmatch(name):
            section.problem(("sources", name), "a source's name may hold letters, digits, _ and - only")
    if len(named) > 500:
        section.problem(("sources",), "there are more than 500")
    if not named and section.value.get("sources") == {}:
        section.problem(("sources",), "at least one source is needed")
    sources = tuple(replace(source, name=name) for name, source in named.items())
    joins = section.list_of("joins", _join)
    names = section.value.get("sources")
    for index, join in enumerate(joins if isinstance(names, Mapping) and names else ()):
        _check_join(section, index, join, tuple(str(name) for name in names or ()))
    added = [f"{join.prefix}{column}" for join in joins for column in join.columns]
    for column in sorted({column for column in added if added.count(column) > 1}):
        section.problem(("joins",), f"the column {column!r} is added twice", "give one of the joins a prefix")
    return DataSpec(
        sources=sources,
        joins=joins,
        target=section.text("target", not_empty),
        time_columns=section.texts("time_columns", not_empty, unique=True),
        drop_missing_target=section.flag("drop_missing_target"),
        time_formats=_time_formats(section),
    )


def _time_formats(section: Section) -> dict[str, str]:
    """strptime formats by time column, for times that are not ISO 8601."""
    inner = section.named("time_formats", optional=True)
    formats = {column: inner.text(column, not_empty) for column in sorted(inner.value)}
    times = section.value.get("time_columns")
    times = times if isinstance(times, list) else list(formats)
    for column in formats:
        if column not in times:
            inner.problem((column,), "is not among data.time_columns", nearest(column, map(str, times)))
    return formats


def _source(section: Section) -> SourceSpec:
    """A source that has no name yet."""
    kind = section.one_of("format", SOURCE_FORMATS)
    where = section.text("location", database if kind == "sql" else location)
    query = section.text("query", select) if kind == "sql" else ""
    if kind != "csv":
        _refuse_csv_keys(section, kind)
        return SourceSpec("", where, kind, query)
    delimiter = section.text("delimiter", one_character, default=",")
    decimal = section.text("decimal", decimal_mark, default=".")
    missing = section.texts("missing", missing_word, unique=True, at_most=MAX_MISSING_WORDS, optional=True)
    if decimal == delimiter and "decimal" in section.value:
        unless = "" if "delimiter" in section.value else " where it is left out"
        section.problem(("decimal",), f"is {shown(decimal)}, and so is the delimiter{unless}")
    return SourceSpec("", where, kind, query, delimiter, decimal, tuple(sorted(missing)))  # their order says nothing


def _refuse_csv_keys(section: Section, kind: Any) -> None:
    """Report what only cells that are written as text can have."""
    for key in CSV_KEYS:
        if key in section.value:
            section.known.append(key)  # it is known, and said to be wrong here in better words
            if kind in SOURCE_FORMATS:
                section.problem((key,), f"has no meaning with format: {kind}", "only csv takes it")


def _join(section: Section) -> JoinSpec:
    return JoinSpec(
        source=section.text("source", not_empty),
        on=section.texts("on", not_empty, unique=True, at_least=1),
        columns=section.texts("columns", not_empty, unique=True, at_least=1),
        prefix=section.text("prefix", one_line_text),
    )


def _check_join(section: Section, index: int, join: JoinSpec, names: tuple[str, ...]) -> None:
    key = ("joins", str(index), "source")
    if join.source and join.source not in names:
        section.problem(key, f"there is no source {join.source!r}", nearest(join.source, names))
    elif join.source and join.source == names[0]:
        section.problem(key, f"{join.source!r} is the main table, the first source; it cannot be joined to itself")


def _validation(section: Section) -> ValidationSpec:
    suite = section.text("suite", short_label)
    expectations = section.list_of("expectations", _expectation)
    if not expectations:
        section.problem(("expectations",), "at least one expectation is needed", "an empty suite accepts anything")
    elif len(expectations) > 1000:
        section.problem(("expectations",), "there are more than 1000")
    return ValidationSpec(suite, expectations)


def _expectation(section: Section) -> ExpectationSpec:
    kwargs = section.mapping("kwargs")
    for name in ("row_condition", "condition_parser"):
        if name in kwargs:
            section.problem(("kwargs", name), "is not allowed: Great Expectations runs it as code")
    column = kwargs.get("column", "column")
    if message := not_empty(column) if isinstance(column, str) else "must be text":
        section.problem(("kwargs", "column"), message)
    return ExpectationSpec(
        type=section.text("type", matching(_EXPECTATION, "an expectation's name, expect_… in snake case")),
        kwargs=kwargs,
        severity=section.one_of("severity", ("critical", "warning"), default="critical"),
    )


_SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "random": ("validation", "test", "seed"),
        "stratified": ("column", "validation", "test", "seed"),
        "group": ("column", "validation", "test", "seed"),
        "time": ("column", "validation_from", "test_from"),
        "predefined": ("column", "values"),
    }
)
"""The keys of each method beside ``method``; all must be given but ``seed`` (0) and ``values`` (the sides' names)."""


def _split(section: Section) -> SplitSpec:
    method = section.one_of("method", tuple(_SPLITS))
    keys = _SPLITS.get(method, ()) if isinstance(method, str) else ()
    for key in section.value:
        if key in SPLIT_KEYS and key not in keys:
            section.known.append(key)  # it is known, and said to be wrong here in better words
            if keys:
                section.problem((key,), f"has no meaning for a {method} split", f"which takes {', '.join(keys)}")
    timed = "validation_from" in keys
    spec = SplitSpec(
        method=method,
        column=section.text("column", not_empty) if "column" in keys else "",
        validation_from=section.text("validation_from", timestamp) if timed else "",
        test_from=section.text("test_from", timestamp) if timed else "",
        validation=section.share("validation") if "validation" in keys else 0.0,
        test=section.share("test") if "test" in keys else 0.0,
        seed=section.integer("seed", 0, 2**32 - 1, default=0) if "seed" in keys else 0,
        values=_side_values(section) if "values" in keys else {},
    )
    read = timed and not (timestamp(spec.validation_from) or timestamp(spec.test_from))
    if read and instant(spec.validation_from) >= instant(spec.test_from):
        section.problem(("validation_from",), f"must be before test_from ({spec.test_from})")
    if spec.validation + spec.test >= 1:
        section.problem(("test",), "validation and test together must leave something for training")
    return spec


def _side_values(section: Section) -> dict[str, tuple[str, ...]]:
    """What the column of a predefined split says for each side."""
    if "values" not in section.value:
        section.known.append("values")
        return {side: (side,) for side in SIDES}

    def read(inner: Section) -> dict[str, tuple[str, ...]]:
        return {side: inner.texts(side, not_empty, unique=True, at_least=1) for side in SIDES}

    values = section.section("values", read)
    words = [word for side in SIDES for word in values[side]]
    for word in sorted({word for word in words if words.count(word) > 1}):
        section.problem(("values",), f"{word!r} stands for two sides")
    return values


def _features(section: Section) -> FeaturesSpec:
    numeric = section.texts("numeric", not_empty, unique=True)
    categorical = section.texts("categorical", not_empty, unique=True)
    inner = section.named("calendar")
    parts = one_of(CALENDAR_PARTS)
    calendar = {column: inner.texts(column, parts, unique=True, at_least=1) for column in sorted(inner.value)}
    text = section.texts("text", not_empty, unique=True, optional=True)
    return FeaturesSpec(numeric, categorical, calendar, text)


def _model(section: Section) -> ModelSpec:
    estimator = section.mapping("estimator")
    if isinstance(section.value.get("estimator"), Mapping) and TARGET not in estimator:
        section.problem(("estimator", TARGET), "is missing", "the class to train, such as sklearn.linear_model.Ridge")
    _check_targets(estimator, ("estimator",), section)
    parameters = section.mapping("parameters", optional=True)
    for key, value in parameters.items():
        if isinstance(value, (Mapping, list)):
            section.problem(("parameters", str(key)), f"must be one value, not {shown(value)}")
    return ModelSpec(section.text("name", label), estimator, parameters)


def _check_targets(value: Any, path: tuple[str, ...], section: Section) -> None:
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check_targets(item, (*path, str(index)), section)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            here = (*path, str(key))
            if key == TARGET and not (isinstance(item, str) and _CLASS.fullmatch(item)):
                section.problem(here, f"must be the dotted name of a class, not {shown(item)}")
            elif str(key).startswith("_") and key != TARGET:
                section.problem(here, f"only {TARGET} has a meaning here", nearest(str(key), (TARGET,)))
            _check_targets(item, here, section)


def _evaluation(section: Section) -> EvaluationSpec:
    task = section.one_of("task", TASKS)
    own = section.sections("own", _own_metric, optional=True)
    for name in own:
        if name in METRICS_BY_NAME or not _METRIC_NAME.fullmatch(name):
            section.problem(("own", name), "must be a new name of lower-case letters, digits and _")
    known = (*(metrics_of(task) if task in TASKS else tuple(METRICS_BY_NAME)), *own)
    metrics = section.texts("metrics", one_of(known), unique=True, at_least=1)
    primary = section.text("primary", not_empty)
    if primary and metrics and primary not in metrics:
        section.problem(("primary",), f"{primary!r} is not among metrics", nearest(primary, metrics))
    positive = section.text("positive", one_line_text, default="")
    if positive and task in TASKS and task != "binary":
        section.problem(("positive",), f"has no meaning for a {task} task")
    return EvaluationSpec(
        task=task,
        metrics=metrics,
        primary=primary,
        own=tuple(OwnMetricSpec(name, *value) for name, value in own.items()),
        positive=positive,
        slices=section.texts("slices", not_empty, unique=True, at_most=20, optional=True),
        permutation_importance=section.integer("permutation_importance", 0, 100, default=0),
    )


def _own_metric(section: Section) -> tuple[str, Any, Any]:
    return (
        section.text("function", matching(_CLASS, "the dotted name of a function")),
        section.one_of("direction", ("minimize", "maximize")),
        section.one_of("needs", ("prediction", "probability"), default="prediction"),
    )


def _own_stages(root: Section) -> tuple[OwnStageSpec, ...]:
    named = root.sections("stages", _own_stage, optional=True)
    for name in named:
        if name in STAGE_NAMES or not _STAGE_NAME.fullmatch(name):
            root.problem(("stages", name), "must be a new name of lower-case letters, digits, _ and -")
    return tuple(OwnStageSpec(name, *value) for name, value in named.items())


def _own_stage(section: Section) -> tuple[dict[str, Any], tuple[str, ...], tuple[str, ...], Any]:
    run = section.mapping("run")
    if isinstance(section.value.get("run"), Mapping) and TARGET not in run:
        section.problem(("run", TARGET), "is missing", "the class to run, such as mypackage.stages.Embed")
    _check_targets(run, ("run",), section)
    feeds = section.one_of("feeds", ("nothing", "features"), default="nothing")
    deps = section.texts("deps", inside, unique=True, at_least=1)
    if feeds == "features":
        return run, deps, tuple(f"{side}.parquet" for side in SIDES), feeds
    outs = section.texts("outs", matching(_FILE, "the name of a file"), unique=True, at_least=1)
    return run, deps, outs, feeds


def _promotion(section: Section) -> PromotionSpec:
    return PromotionSpec(
        min_improvement=section.number("min_improvement", -math.inf),
        require=section.one_of("require", ("better", "not worse"), default="better"),
        margin=section.positive("margin") or 0.0,
        min_rows=section.integer("min_rows", 2, 10**9, default=100),
        min_share=_min_share(section),
        confidence=_confidence(section),
        resamples=section.integer("resamples", 200, 100_000, default=2000),
        max_worsening=_worsenings(section.named("max_worsening", optional=True)),
        slices=section.one_of("slices", ("hold", "warn"), default="warn"),
        expectations=section.one_of("expectations", ("hold", "warn"), default="warn"),
        max_training_seconds=section.positive("max_training_seconds"),
        max_model_bytes=section.positive("max_model_bytes"),
        max_prediction_seconds=section.positive("max_prediction_seconds"),
        resample_by=section.text("resample_by", one_line_text, default=""),
    )


def _confidence(section: Section) -> float:
    value = section.positive("confidence") or 0.95
    if not 0.5 <= value < 1:
        section.problem(("confidence",), f"must be at least 0.5 and less than 1, not {shown(value)}")
    return value


def _min_share(section: Section) -> float:
    value = section.positive("min_share") or 0.9
    if value > 1:
        section.problem(("min_share",), f"must be 1 at most, not {shown(value)}")
    return value


def _worsenings(section: Section) -> dict[str, float]:
    return {str(name): section.number(str(name), 0) for name in section.value}


def _ci(section: Section) -> CiSpec:
    python = section.text("python", matching(_PYTHON, 'a Python version such as "3.11", in quotes'))
    spec = CiSpec(
        provider=section.one_of("provider", ("github", "gitlab")),
        python=python,
        url=section.text("url", _api_url, default=""),
        labels=_labels(section.named("labels", optional=True)),
        fork_label=section.text("fork_label", _forge_label, default=""),
    )
    if spec.provider == "gitlab" and spec.fork_label:
        section.problem(("fork_label",), 'must be "": GitLab runs the pipelines of a fork in the fork')
    return spec


def _api_url(text: str) -> str | None:
    if text and not _API_URL.fullmatch(text):
        return "must be the address of a forge's API, without credentials: `https://forge.example.org/api/v3`"
    return None


def _labels(section: Section) -> dict[str, str]:
    known = tuple(verdict.replace(" ", "_") for verdict in VERDICTS)
    for key in section.value:
        if key not in known:
            section.problem((str(key),), "is no verdict of a report", nearest(str(key), known))
    return {str(key): section.text(str(key), _forge_label) for key in section.value}


def _forge_label(text: str) -> str | None:
    return None if _LABEL.fullmatch(text) else "must be a label of up to 50 letters, digits, blanks and . _ : / + -"


def _executor(section: Section) -> ExecutorSpec:
    timeout = section.number("timeout_minutes", 0)
    if timeout == 0:
        section.problem(("timeout_minutes",), "must be more than 0")
    threads, jobs = section.integer("threads", 1, 1024), section.integer("jobs", 1, 1024)
    return ExecutorSpec(threads, jobs, timeout, section.positive("memory_gib"))


def _experiments(section: Section) -> ExperimentsPolicy:
    pattern = matching(_BRANCHES, "a branch pattern of letters, digits, . _ / - and *")
    return ExperimentsPolicy(
        branches=section.texts("branches", pattern, unique=True, at_least=1),
        rerun_on=section.texts("rerun_on", one_of(COMPONENTS), unique=True, at_least=1),
        retries=section.integer("retries", 0, 100),
    )


def _index(section: Section) -> IndexPolicy:
    """The filters are texts here: whether they can be read is looked at where the language is known."""
    return IndexPolicy(
        let_go=section.texts("let_go", _filter_text, unique=True, at_most=100, optional=True),
        erasers=section.list_of("erasers", _eraser, optional=True),
    )


def _filter_text(text: str) -> str | None:
    """One line that a record can hold; one that is blank would let everything go."""
    if not text.strip():
        return "must not be empty: it would let every run go"
    return "must be one line without control characters" if _NOT_ONE_LINE.search(text) else longer(text, 4000)


def _eraser(section: Section) -> EraserSpec:
    key = matching(_PUBLIC_KEY, "a public SSH key: `ssh-ed25519 AAAA…`")
    return EraserSpec(section.text("name", matching(_PERSON, "`Name <address>`")), section.text("key", key))


def _check_columns(spec: Spec, report: Report) -> None:
    """What concerns more than one group: targets, times and features."""
    features, data = spec.features, spec.data
    used: dict[str, str] = {}
    for kind, columns in (
        ("numeric", features.numeric),
        ("categorical", features.categorical),
        ("calendar", tuple(f"{column}_{part}" for column, parts in features.calendar.items() for part in parts)),
        ("text", features.text),
    ):
        for column in columns:
            if column in used:
                report.add(("features", kind), f"{column!r} is a feature already, under {used[column]}")
            used.setdefault(column, kind)
    if not used and not any(stage.feeds == "features" for stage in spec.stages):
        report.add(("features",), "at least one feature is needed")
    for column in (*used, *features.calendar):
        if column == data.target:
            kind = used.get(column, "calendar")
            report.add(("features", kind), f"{column!r} is the target; as a feature it would leak")
    timed = [(("split", "column"), spec.split.column)] if spec.split.method == "time" else []
    for key, column in (*timed, *((("features", "calendar", column), column) for column in features.calendar)):
        if column not in data.time_columns:
            report.add(key, f"{column!r} is not among data.time_columns", nearest(column, data.time_columns))


def _check_gates(spec: Spec, report: Report) -> None:
    """A limit of a metric that is not measured would never be met."""
    measured = spec.evaluation.metrics
    for name in spec.promotion.max_worsening:
        if name not in measured:
            report.add(
                ("promotion", "max_worsening", name),
                "is not among evaluation.metrics",
                nearest(name, measured) or f"they are {', '.join(measured)}",
            )


def _check_own_stages(spec: Spec, report: Report) -> None:
    """A stage of the project reads what the stages before it write, and nothing else."""
    taken: list[OwnStageSpec] = []
    for stage in (*(one for one in spec.stages if one.feeds == "features"), *spec.stages):
        if stage in taken:
            continue
        there = _written_before(stage, Pipeline((), own=tuple(taken)))
        for index, path in enumerate(stage.deps):
            if path not in there:
                key = ("stages", stage.name, "deps", str(index))
                report.add(key, f"{path!r} is written by no stage before it", nearest(path, there))
        taken.append(stage)


def _written_before(stage: OwnStageSpec, pipeline: Pipeline) -> tuple[str, ...]:
    """Outputs of the stages that run before one of the project: of all but ``evaluate``, or those before ``train``."""
    names = [one.name for one in stages(pipeline)]
    last = names.index("train" if stage.feeds == "features" else "evaluate")
    return tuple(path for one in stages(pipeline)[:last] for path in one.outs)
