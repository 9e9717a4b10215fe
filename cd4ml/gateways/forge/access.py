"""Which forge, which repository on it, and with which token: from the configuration, CI's variables and the remote.

Pure: the environment is given. The token comes from there alone and is in no text that these values give of themselves.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cd4ml.errors import UsageError
from cd4ml.promotion.addresses import Place, place_of
from cd4ml.spec.experiment import CiSpec, Provider
from cd4ml.spec.secrets import redacted

NAMES: Mapping[Provider, str] = {"github": "GitHub", "gitlab": "GitLab"}
_OWN_TOKEN = "CD4ML_FORGE_TOKEN"  # noqa: S105  # the name of a variable
_TOKENS: Mapping[Provider, tuple[str, ...]] = {
    "github": (_OWN_TOKEN, "GITHUB_TOKEN", "GH_TOKEN"),
    "gitlab": (_OWN_TOKEN, "GITLAB_TOKEN"),
}
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+")
_CONTROLS = re.compile(r"[^\x21-\x7e]")
_PUBLIC_SITES: Mapping[Provider, str] = {"github": "https://github.com", "gitlab": "https://gitlab.com"}


@dataclass(frozen=True)
class Access:
    """``api`` is the address that the client library takes: of GitHub its API, of GitLab its site.

    ``token_from`` is the variable that held the token. ``account`` is the account that it writes as where the forge
    would not tell (``""``: it is asked).
    """

    place: Place
    api: str
    token: str = field(repr=False)
    token_from: str = ""
    account: str = ""


def find_access(ci: CiSpec, remote_url: str, environment: Mapping[str, str]) -> Access:
    """The first that says something: ``ci.url``, CI's own variables, the remote's address, the public forge.

    Raises UsageError when there is no token, or nothing tells which repository it is, or a token would go over the
    network in the clear.
    """
    provider = ci.provider
    api = _api(ci, remote_url, environment)
    place = _place(ci, api, remote_url, environment)
    name, token = _token(provider, environment)
    _check_private(api)
    return Access(place, api, token, name, environment.get("CD4ML_FORGE_USER", ""))


def _api(ci: CiSpec, remote_url: str, environment: Mapping[str, str]) -> str:
    if ci.url:
        return _site(ci.url) if ci.provider == "gitlab" else ci.url.rstrip("/")
    if ci.provider == "gitlab":
        told = environment.get("CI_SERVER_URL") or environment.get("CI_API_V4_URL", "")
        remote = place_of(remote_url, "gitlab")
        return _site(told) if told else remote.site if remote else _PUBLIC_SITES["gitlab"]
    if told := environment.get("GITHUB_API_URL", ""):
        return told.rstrip("/")
    remote = place_of(remote_url, "github")
    return _github_api(remote.site if remote else _PUBLIC_SITES["github"])


def _github_api(site: str) -> str:
    host = urlsplit(site).netloc
    if host == "github.com" or host.endswith(".ghe.com"):
        return f"https://api.{host}"
    return f"{site}/api/v3"


def _site(url: str) -> str:
    """GitLab's own address from that of its API."""
    return re.sub(r"/api/v4$", "", url.rstrip("/"))


def _place(ci: CiSpec, api: str, remote_url: str, environment: Mapping[str, str]) -> Place:
    site, repository, variable = (
        (environment.get("GITHUB_SERVER_URL", ""), environment.get("GITHUB_REPOSITORY", ""), "GITHUB_REPOSITORY")
        if ci.provider == "github"
        else (environment.get("CI_SERVER_URL", ""), environment.get("CI_PROJECT_PATH", ""), "CI_PROJECT_PATH")
    )
    remote = place_of(remote_url, ci.provider, ci.url)
    if not repository and remote is not None:
        return remote
    if not _REPOSITORY.fullmatch(repository) or {".", ".."} & set(repository.split("/")):
        raise UsageError(
            f"nothing tells which repository of {NAMES[ci.provider]} this is: the remote is "
            f"{redacted(remote_url) or 'not set'} (say it with {variable}=OWNER/NAME)"
        )
    if not site:
        site = re.sub(r"/api/v[34]$", "", api).replace("://api.", "://", 1)
    return Place(ci.provider, site.rstrip("/"), repository)


def _token(provider: Provider, environment: Mapping[str, str]) -> tuple[str, str]:
    for name in _TOKENS[provider]:
        if token := environment.get(name, "").strip():
            if _CONTROLS.search(token):
                raise UsageError(f"{name}: is no token: it holds blanks or characters that no token has")
            return name, token
    others = ", ".join(_TOKENS[provider])
    if provider == "gitlab" and environment.get("CI_JOB_TOKEN"):
        raise UsageError(
            "GitLab's job token may not write notes: give the job a project access token with the scope `api` and the "
            f"role Developer, as the masked variable {_OWN_TOKEN}"
        )
    raise UsageError(f"no token for {NAMES[provider]} in the environment ({others}): docs/forges.md says which rights")


def _check_private(api: str) -> None:
    parts = urlsplit(api)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise UsageError(f"ci.url: {api} would send the token over the network in the clear: use https")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
