"""Rendered workflows of several projects, and the three linters over them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from cd4ml.render.workflows import render_workflows
from cd4ml.spec.experiment import Spec
from cd4ml.spec.parse import parse
from cd4ml.spec.sources import load_yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TEMPLATES = {
    path.relative_to(ROOT / "templates").as_posix(): path.read_text("utf-8")
    for path in (ROOT / "templates").rglob("*.j2")
}


def project_spec(**ci: Any) -> Spec:
    """The project of this repository, with other values in ``conf/ci``; as ``parse`` lets them pass."""
    value = load_yaml((ROOT / "conf/config.yaml").read_text("utf-8"))
    for entry in value.pop("defaults"):
        ((group, choice),) = entry.items() if isinstance(entry, dict) else {"experiment": ""}.items()
        if group != "experiment":
            value[group] = load_yaml((ROOT / f"conf/{group}/{choice}.yaml").read_text("utf-8"))
    value["ci"] = {**load_yaml((ROOT / f"conf/ci/{ci.get('provider', 'github')}.yaml").read_text("utf-8")), **ci}
    return parse(value)


HOSTILE = {
    "lock": "a ${{ secrets.X }} 'b' $CI_JOB_TOKEN `id`.lock",
    "branches": ("exp/*", "-x/**.y", "___*"),
    "fork_label": "run: this + c/d-e ._",
    "base": "rel/ma'in-$(id);`id`!+x\"|&",
}


def hostile(spec: Spec) -> Spec:
    """The worst that configuration may hold: paths, patterns and labels that Git and the forges take."""
    experiments = replace(spec.experiments, branches=HOSTILE["branches"])  # type: ignore[arg-type]  # a dict of mixed values
    return replace(spec, lock=str(HOSTILE["lock"]), experiments=experiments)


def variants() -> dict[str, tuple[Spec, str]]:
    """Projects by what is special about them: what the base branch asks for, and its name."""
    gitlab = project_spec(provider="gitlab")
    return {
        "as committed": (project_spec(), "main"),
        "another base, no lock": (replace(project_spec(), lock=""), "release/2.x"),
        "forks by label": (project_spec(fork_label="run this"), "main"),
        "hostile": (hostile(project_spec(fork_label=HOSTILE["fork_label"])), str(HOSTILE["base"])),
        "gitlab": (gitlab, "main"),
        "gitlab, no lock": (replace(gitlab, lock=""), "release/2.x"),
        "gitlab, hostile": (hostile(gitlab), str(HOSTILE["base"])),
    }


def write_workflows(folder: Path, variant: str) -> list[Path]:
    """The rendered files of a variant, below ``folder`` as a repository has them."""
    spec, base = variants()[variant]
    written = []
    for name, text in render_workflows(spec, TEMPLATES, base).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        written.append(path)
    return written


def lint(folder: Path, *command: str) -> tuple[int, str]:
    """The exit code of a linter, and all that it said; it sees no settings but its own."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    done = subprocess.run(
        (str(BIN / command[0]), *command[1:]), cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def zizmor_findings(folder: Path, path: Path) -> list[tuple[str, str]]:
    """Every finding of the strictest persona with nothing configured: the rule, and the place in the file."""
    command = ("--offline", "--no-progress", "--no-config", "--persona", "auditor", "--format", "json-v1")
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    done = subprocess.run(
        (str(BIN / "zizmor"), *command, str(path)), cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, *range(11, 15)}, done.stderr
    found = []
    for finding in json.loads(done.stdout):
        assert not finding["ignored"], finding
        route = finding["locations"][0]["symbolic"]["route"]["route"]
        found.append((finding["ident"], ".".join(str(next(iter(part.values()))) for part in route)))
    return found
