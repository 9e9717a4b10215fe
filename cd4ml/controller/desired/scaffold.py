"""What the package brings along: templates, and the scaffold of a new project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import cd4ml
from cd4ml.controller.project import CONF, TEMPLATES, Project
from cd4ml.promotion.addresses import place_of
from cd4ml.spec.sources import CONFIG


def shipped(folder: str) -> Path:
    """A folder that ships with the package: inside the wheel, or beside the package in a checkout."""
    package = Path(cd4ml.__file__).parent
    inside = package / "_project" / folder
    return inside if inside.is_dir() else package.parent / folder


def scaffold() -> dict[str, bytes]:
    """The shipped configuration by path from a repository's root."""
    source = shipped(CONF)
    return {f"{CONF}/{path.relative_to(source).as_posix()}": path.read_bytes() for path in source.rglob("*.yaml")}


def for_forge(files: Mapping[str, bytes], remote_url: str) -> dict[str, bytes]:
    """The configuration for the forge that a remote's address names by its host: GitLab's, or as it is."""
    place = place_of(remote_url, "gitlab")
    if place is None or "gitlab" not in (urlsplit(place.site).hostname or ""):
        return dict(files)
    return {**files, CONFIG: files[CONFIG].replace(b"- ci: github", b"- ci: gitlab")}


def load_templates(project: Project, base_commit: str) -> Mapping[str, str]:
    """Templates by name: the shipped ones, and over them those of the base branch's ``templates/``."""
    return merged_templates(project.repository.read_files(base_commit, TEMPLATES))


def merged_templates(own: Mapping[str, bytes]) -> Mapping[str, str]:
    """The shipped templates by name, and over them a project's own, given by path from its root."""
    folder = shipped(TEMPLATES)
    ours = {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in sorted(folder.rglob("*.j2"))}
    theirs = {
        path.removeprefix(f"{TEMPLATES}/"): data.decode("utf-8", "replace")
        for path, data in own.items()
        if path.endswith(".j2")
    }
    return {**ours, **theirs}
