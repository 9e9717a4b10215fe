"""Where a forge shows a file at a commit, from the address that Git uses for the repository."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from cd4ml.spec.experiment import Provider

_SCP_LIKE = re.compile(r"(?:[^@/:]+@)?(?P<host>\[[0-9a-fA-F:]+\]|[^/:\[\]]+):(?P<path>(?!//).+)")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\]")
_API = re.compile(r"/api(?:/v[0-9]+)?/?$")
_PUBLIC_API = {"https://api.github.com": "https://github.com"}
_WEB = ("https", "http")
_PAGES = (".md",)
"""Endings of files that a forge renders as a page; the rest is given as it is."""


@dataclass(frozen=True)
class Place:
    """A repository on a forge: ``site`` is the forge's web address, ``repository`` ``OWNER/NAME``.

    Neither ends in a slash, and neither holds a user name or a token.
    """

    provider: Provider
    site: str
    repository: str


def place_of(url: str, provider: Provider, api: str = "") -> Place | None:
    """The place that Git's address of a remote names; nothing for a folder of this machine, or what is no address.

    ``api`` is the address of a forge of one's own, if ``conf/ci`` names one: the site is then where that is. Of an SSH
    address the port says nothing of the site. The user part of an address is left out: it may hold a token.
    """
    if not (url + api).isprintable():
        return None
    site, path = _site_and_path(url)
    if api:
        site = _site_of_api(api) or site
        prefix = unquote(urlsplit(site).path).strip("/") + "/"  # a forge that is served below a folder of its host
        path = path.strip("/").removeprefix(prefix) if prefix != "/" else path
    path = path.strip("/").removesuffix(".git").strip("/")
    parts = path.split("/")
    least = len(parts) == 2 if provider == "github" else len(parts) >= 2
    if (
        not site or not least or set(parts) & {"", ".", ".."} or not path.isprintable()
    ):  # what was quoted may hold anything
        return None
    return Place(provider, site, path)


def file_addresses(place: Place, commit: str, names: Iterable[str]) -> Mapping[str, str]:
    """Where the forge shows each of these files of a commit, by name; whoever may read the repository sees them.

    Markdown is shown as a page; all else is given as it is, so that an image can be shown in a comment.
    """
    middle = "" if place.provider == "github" else "/-"
    start = f"{place.site}/{quote(place.repository)}{middle}"
    return {name: f"{start}/{'blob' if name.endswith(_PAGES) else 'raw'}/{commit}/{quote(name)}" for name in names}


def _site_and_path(url: str) -> tuple[str, str]:
    """Both empty for what names no host."""
    if "://" not in url:
        found = _SCP_LIKE.fullmatch(url)
        return (_site(found["host"]), found["path"]) if found else ("", "")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "", ""
    host = f"[{host}]" if ":" in host else host
    path = unquote(parts.path)
    if parts.scheme in _WEB:
        return _site(host, parts.scheme, port), path
    return (_site(host), path) if parts.scheme in ("ssh", "git+ssh", "git") else ("", "")


def _site_of_api(api: str) -> str:
    whole = api.rstrip("/")
    if whole in _PUBLIC_API:
        return _PUBLIC_API[whole]
    site, path = _site_and_path(whole)
    return site and f"{site}{quote(_API.sub('', path))}".rstrip("/")


def _site(host: str, scheme: str = "https", port: int | None = None) -> str:
    if not _HOST.fullmatch(host):
        return ""
    return f"{scheme}://{host.lower()}{f':{port}' if port else ''}"
