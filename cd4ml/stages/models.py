"""Models as canonical skops: equal models give equal bytes, and loading them runs nothing that is not named here.

A skops file is a zip archive: ``schema.json`` is a tree of nodes, and arrays and byte strings are members of
their own. As skops writes it, it differs on every run: nodes carry ``id()`` numbers, members are named after
them or after a UUID, the archive carries the time, structured arrays carry whatever lay in their padding,
sets come in hash order, searches over parameters keep how long they took, text vectorisers an address and
histogram boosting how many threads there were. Here all of that is made a function of the model (design, decision
11); skops loads the outcome unchanged.

Loading checks every node of the tree against the rule in ``_refusal`` before skops sees the file.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, MappingProxyType
from typing import Any

from cd4ml.errors import IntegrityError, StageFailed
from cd4ml.spec.canonical import canonical_json

SCHEMA_MEMBER = "schema.json"
OLDEST_PROTOCOL = 2
"""Files that claim an older protocol choose older, less strict loaders of skops for themselves."""

MODEL_PACKAGES = frozenset({"sklearn", "xgboost"})
"""Packages whose classes a model may be made of; a project's own packages are added by its base branch."""

SUPPORT_TYPES = frozenset(
    {
        *(f"builtins.{name}" for name in ("int", "float", "str", "bool", "bytes", "bytearray", "complex")),
        *(f"builtins.{name}" for name in ("dict", "list", "tuple", "set", "slice", "NoneType")),
        "collections.OrderedDict",
        "collections.defaultdict",
        "functools.partial",
        "sklearn.utils._bunch.Bunch",
        "numpy.dtype",
        "numpy.ndarray",
        "numpy.ma.MaskedArray",
        "numpy.random.mtrand.RandomState",
        "numpy.random._generator.Generator",
        *(f"scipy.interpolate._bsplines.{name}" for name in ("BSpline", "_BSpline")),  # the second from 1.18 on
        *(f"scipy.sparse._{module}.{module}_{kind}" for module in ("csr", "csc") for kind in ("matrix", "array")),
    }
)
FUNCTIONS = frozenset(
    {
        "sklearn.utils.validation.check_array",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "numpy.mean",
        "sklearn.cluster._kmeans._kmeans_single_lloyd",
        "sklearn.cluster._kmeans._kmeans_single_elkan",
        *(f"sklearn.feature_selection._univariate_selection.{name}" for name in ("f_classif", "f_regression")),
        *(f"sklearn.feature_selection._univariate_selection.{name}" for name in ("chi2", "r_regression")),
    }
)
"""Functions that a model may hold, beside the metrics of scikit-learn (searches keep what they scored by) and the
ufuncs of NumPy and scipy.special: they compute and do nothing else."""

_CLASS_LOADERS = frozenset({"ObjectNode", "TreeNode", "LossNode"})
_SUPPORT_LOADERS = frozenset(
    {
        *("DictNode", "DefaultDictNode", "ListNode", "TupleNode", "SetNode", "SliceNode", "JsonNode", "BytesNode"),
        *("BytearrayNode", "NdArrayNode", "MaskedArrayNode", "DTypeNode", "RandomStateNode", "RandomGeneratorNode"),
        *("SparseMatrixNode", "PartialNode"),
    }
)
_DENIED_PARTS = frozenset({"externals", "tests", "testing", "conftest", "datasets", "dask", "spark"})
_TIMES = frozenset({"refit_time_", "mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time"})
_OF_THE_PROCESS: Mapping[str, str] = MappingProxyType({"_stop_words_id": "0", "_n_threads": "1"})
"""Attributes that say something of the process that trained, and what stands for them: the ``id()`` that a text
vectoriser compares to see whether its words were changed, and how many threads there were."""

_UNSHARED = frozenset({"JsonNode", "TypeNode", "FunctionNode"})
"""Nodes of values that cannot change: whether two of them are one object depends on Python's interning only."""

Node = dict[str, Any]


def dump_model(estimator: Any, packages: frozenset[str] = MODEL_PACKAGES) -> bytes:
    """The canonical skops bytes of an estimator.

    Raises StageFailed when it holds something that skops cannot store, or that ``load_model`` would refuse.
    """
    import skops.io

    try:
        raw = skops.io.dumps(estimator)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        message = f"{type(estimator).__name__} cannot be stored as skops: {type(error).__name__}"
        raise StageFailed("train", message) from error
    schema, members = _opened(raw)
    refused = _refused(schema, packages)
    if refused:
        raise StageFailed("train", f"{type(estimator).__name__} cannot be stored: it holds {'; '.join(refused[:5])}")
    return _archive(*_canonical(schema, members))


def load_model(data: bytes, packages: frozenset[str] = MODEL_PACKAGES) -> Any:
    """The estimator in canonical skops bytes.

    Raises IntegrityError when the bytes are no such file or hold a type that is not allowed. Checking the
    bytes against a digest is for the caller: an allowed type with hostile content can end the process.
    """
    import skops.io

    schema, _ = _opened(data)
    refused = _refused(schema, packages)
    if refused:
        raise IntegrityError(f"the model holds what models may not: {'; '.join(refused[:5])}")
    try:
        return skops.io.loads(data, trusted=sorted({_name(node) for node in _nodes(schema)}))
    except Exception as error:  # the bytes are a stranger's, and skops checks their shape as it goes
        raise IntegrityError(f"the model cannot be loaded: {type(error).__name__}") from error


def model_digest(data: bytes) -> str:
    """The name of a model: SHA-256 (hex) of its canonical bytes.

    Equal over runs, processes and machines for equal parameters, ``n_jobs`` among them: XGBoost keeps its number
    of threads inside the booster.
    """
    return hashlib.sha256(data).hexdigest()


# --- the archive ---------------------------------------------------------------------------------------


def _opened(data: bytes) -> tuple[Node, dict[str, bytes]]:
    """Schema and members. Raises IntegrityError for anything but stored members and a tree of plain JSON."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise IntegrityError("the model is not canonical skops: a member is compressed")
            if len({info.filename for info in infos}) != len(infos):
                raise IntegrityError("the model is not canonical skops: two members have one name")
            members = {info.filename: archive.read(info) for info in infos}
        schema = json.loads(members.pop(SCHEMA_MEMBER))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError, NotImplementedError, EOFError) as error:
        raise IntegrityError(f"the model is not a skops file: {type(error).__name__}") from error
    if not isinstance(schema, dict):
        raise IntegrityError("the model is not a skops file: its schema is no object")
    protocol = schema.get("protocol")
    if isinstance(protocol, bool) or not isinstance(protocol, int) or protocol < OLDEST_PROTOCOL:
        raise IntegrityError(f"the model is of a skops protocol before {OLDEST_PROTOCOL}")
    return schema, members


def _archive(schema: Node, members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    text = json.dumps(schema, separators=(",", ":"), ensure_ascii=True).encode()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted({**members, SCHEMA_MEMBER: text}.items()):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def _nodes(value: Any) -> Iterator[Node]:
    """Every node of the tree in the order of the text; a dictionary counts when its loader is a text."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if isinstance(item.get("__loader__"), str):
                yield item
            pending.extend(reversed(item.values()))
        elif isinstance(item, list):
            pending.extend(reversed(item))


def _name(node: Node) -> str:
    return f"{node.get('__module__')}.{node.get('__class__')}"


# --- canonical form ------------------------------------------------------------------------------------


def _canonical(schema: Node, members: Mapping[str, bytes]) -> tuple[Node, dict[str, bytes]]:
    for node in _nodes(schema):
        if node["__loader__"] == "SetNode":
            node["content"].sort(key=lambda item: canonical_json(_without_ids(item)))
    uses: dict[int, int] = {}
    for node in _nodes(schema):
        uses[node.get("__id__", 0)] = uses.get(node.get("__id__", 0), 0) + 1
    numbers: dict[int, int] = {}
    names: dict[str, str] = {}
    for node in _nodes(schema):
        identity = node.pop("__id__", 0)
        if uses[identity] > 1 and identity and node["__loader__"] not in _UNSHARED:
            node["__id__"] = numbers.setdefault(identity, len(numbers) + 1)
        if isinstance(node.get("file"), str):
            ending = node["file"].rpartition(".")[2]
            node["file"] = names.setdefault(node["file"], f"{len(names):06d}.{ending}")
    renamed = {names[name]: _normal_array(content) for name, content in members.items() if name in names}
    for node in _nodes(schema):
        if node["__loader__"] == "DictNode":
            _forget_process(node, renamed)
    return schema, renamed


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_ids(item) for key, item in value.items() if key != "__id__"}
    return [_without_ids(item) for item in value] if isinstance(value, list) else value


def _normal_array(content: bytes) -> bytes:
    """The bytes of a NumPy file with the padding between fields, which holds whatever was there, zeroed."""
    import numpy as np

    if not content.startswith(b"\x93NUMPY"):
        return content
    array = np.load(io.BytesIO(content), allow_pickle=False)
    return _saved(_padded_with_zeros(array)) if array.dtype.names else content


def _padded_with_zeros(array: Any) -> Any:
    import numpy as np

    clean = np.zeros(array.shape, array.dtype)
    for field in array.dtype.names:
        clean[field] = array[field]
    return clean


def _saved(array: Any) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _forget_process(node: Node, members: dict[str, bytes]) -> None:
    """Set what a search wrote about its own speed to zero, and what is said of the process."""
    import numpy as np

    for key in _OF_THE_PROCESS.keys() & node["content"].keys():
        if node["content"][key]["__loader__"] == "JsonNode":
            node["content"][key]["content"] = _OF_THE_PROCESS[key]
    for key in _TIMES & node["content"].keys():
        item = node["content"][key]
        if item["__loader__"] == "JsonNode":
            item["content"] = "0.0"
        elif item["__loader__"] == "NdArrayNode" and item.get("type") == "numpy":
            array = np.load(io.BytesIO(members[item["file"]]), allow_pickle=False)
            members[item["file"]] = _saved(np.zeros_like(array))


# --- what a model may be made of -----------------------------------------------------------------------


def _refused(schema: Node, packages: frozenset[str]) -> list[str]:
    """Every type or function in the tree that the rule does not allow, named, sorted."""
    seen = {
        (str(node["__loader__"]), str(node.get("__module__")), str(node.get("__class__"))) for node in _nodes(schema)
    }
    refused = [one for one in seen if _refusal(*one, packages)]
    return sorted(f"{module}.{name} ({loader})" for loader, module, name in refused)


def _refusal(loader: str, module: str, name: str, packages: frozenset[str]) -> bool:
    """The rule: a node is refused unless its loader and what it names are one of

    - a plain value, container, array or random generator of Python, NumPy or SciPy that is named above;
    - a named tuple, found where it says it is, of an allowed package;
    - a *class*, found where it says it is, of an allowed package and not of its tests or downloads;
    - one of the few functions named above, a metric of scikit-learn, or a ufunc of NumPy or scipy.special.

    Bound methods, attribute getters and calls of a constructor (``MethodNode``, ``OperatorFuncNode``,
    ``ConstructorFromReduceNode``) can act on loading and have no place here.
    """
    full = f"{module}.{name}"
    checks: Mapping[str, Callable[[], bool]] = {
        **dict.fromkeys(_SUPPORT_LOADERS, lambda: full in SUPPORT_TYPES or _is_numpy_scalar(module, name)),
        **dict.fromkeys(_CLASS_LOADERS, lambda: full in SUPPORT_TYPES or _is_class(module, name, packages)),
        "TupleNode": lambda: full in SUPPORT_TYPES or _is_named_tuple(module, name, packages),
        "TypeNode": lambda: (
            full in SUPPORT_TYPES or _is_numpy_scalar(module, name) or _is_class(module, name, packages)
        ),
        "FunctionNode": lambda: full in FUNCTIONS or _is_ufunc(module, name) or _is_metric(module, name),
    }
    return loader not in checks or not checks[loader]()


def _is_class(module: str, name: str, packages: frozenset[str]) -> bool:
    parts = module.split(".")
    if parts[0] not in packages or _DENIED_PARTS & set(parts) or not all(map(str.isidentifier, [*parts, name])):
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception:  # noqa: BLE001  # a project's own module may raise anything as it is imported
        return False
    # the same place that it says it is from: nothing that the module merely imported
    return isinstance(found, type) and found.__module__ == module and found.__qualname__ == name


def _is_named_tuple(module: str, name: str, packages: frozenset[str]) -> bool:
    if not _is_class(module, name, packages):
        return False
    found = getattr(importlib.import_module(module), name)
    return issubclass(found, tuple) and hasattr(found, "_fields")


def _is_numpy_scalar(module: str, name: str) -> bool:
    import numpy as np

    found = getattr(np, name, None) if module == "numpy" else None
    return isinstance(found, type) and issubclass(found, np.generic)


def _is_ufunc(module: str, name: str) -> bool:
    import numpy as np
    import scipy.special  # type: ignore[import-untyped]  # SciPy ships no types

    homes = {"numpy": np, "numpy._core._multiarray_umath": np, "scipy.special": scipy.special}
    homes["scipy.special._ufuncs"] = scipy.special
    return module in homes and isinstance(getattr(homes[module], name, None), np.ufunc)


def _is_metric(module: str, name: str) -> bool:
    import sklearn.metrics

    found = getattr(sklearn.metrics, name, None) if module.startswith("sklearn.metrics.") else None
    return isinstance(found, FunctionType) and found.__module__ == module and found.__name__ == name
