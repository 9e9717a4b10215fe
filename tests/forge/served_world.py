"""A forge on loopback that keeps state, fails when told to, and holds every request and answer to a description.

What a description does not allow is answered with 500 and remembered in ``violations``, so that a test ends by asking
for none. Faults are scripted: a status, or no answer at all, before or after the thing was done.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from openapi_core import OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.templating.responses.exceptions import ResponseNotFound
from openapi_core.testing import MockRequest, MockResponse

HOST = "http://forge.test"
"""Stands in the description for wherever the forge really listens."""

TOKEN = "token-for-tests-9f2c"


@dataclass(frozen=True)
class Asked:
    """A request as it came: ``path`` without the prefix of the API, still quoted, ``query`` and ``body`` parsed."""

    verb: str
    path: str
    query: Mapping[str, str]
    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """``body`` is JSON, nothing for an empty answer, or bytes to send as they are.

    ``beside`` says why the description does not hold for it, where a forge is known to answer so all the same.
    """

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    beside: str = ""


@dataclass
class Fault:
    """What happens to the next ``times`` requests whose ``VERB /path`` the pattern finds.

    ``status`` 0 closes the connection. ``done`` says whether the thing is done all the same. ``first`` is called
    before, for whatever somebody else does meanwhile; with ``status`` nothing more than that happens.
    """

    pattern: str
    status: int | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1
    done: bool = False
    first: Callable[[], None] | None = None


Route = tuple[str, re.Pattern[str], Callable[..., Answer]]


class Served:
    """A forge that listens for as long as the ``with`` block runs. Its kinds say what they answer."""

    prefix: ClassVar[str] = ""
    """Of the paths in the description."""

    description: ClassVar[Mapping[str, Any]]
    _read: ClassVar[dict[type[Served], OpenAPI]] = {}

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.faults: list[Fault] = []
        self.violations: list[str] = []
        self.lock = Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.forge = self
        if type(self) not in self._read:
            self._read[type(self)] = OpenAPI.from_dict({**self.description, "servers": [{"url": HOST}]})

    def __enter__(self) -> Served:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def writes(self) -> list[str]:
        """Everything that was asked for and is no mere question, as ``VERB /path``."""
        return [f"{one.verb} {one.path}" for one in self.asked if one.verb != "GET"]

    def routes(self) -> list[Route]:
        raise NotImplementedError

    def refused(self, asked: Asked) -> Answer | None:
        """What a forge looks at first: the token."""
        raise NotImplementedError

    def answer(self, asked: Asked) -> Answer | None:
        """Nothing stands for a connection that is closed without a word."""
        with self.lock:
            self.asked.append(asked)
            fault = self._fault(asked)
            if fault is not None and fault.first is not None:
                fault.first()
            if fault is None or fault.done or fault.status is None:
                answer = self.refused(asked) or self._checked(asked)
            if fault is None or fault.status is None:
                return answer
            return Answer(fault.status, fault.body, fault.headers) if fault.status else None

    def _fault(self, asked: Asked) -> Fault | None:
        for fault in self.faults:
            if fault.times and re.search(fault.pattern, f"{asked.verb} {asked.path}"):
                fault.times -= 1
                return fault
        return None

    def _checked(self, asked: Asked) -> Answer:
        """The answer to a request, both held to the description."""
        description = self._read[type(self)]
        body = json.dumps(asked.body).encode() if asked.body is not None else b""
        request = MockRequest(
            HOST, asked.verb, self.prefix + asked.path, args=dict(asked.query), headers=dict(asked.headers), data=body
        )
        try:
            self._hold_query(asked)
            description.validate_request(request)
        except OpenAPIError as error:
            return self._violation(asked, error)
        answer = self._routed(asked)
        if answer.beside:
            return answer
        try:
            data = b"" if answer.body is None else json.dumps(answer.body).encode()
            description.validate_response(request, MockResponse(data, answer.status, dict(answer.headers)))
        except ResponseNotFound as error:
            if answer.status not in (401, 403, 404):  # which every operation may answer, and few are described with
                return self._violation(asked, error, answer)
        except OpenAPIError as error:
            return self._violation(asked, error, answer)
        return answer

    def _hold_query(self, asked: Asked) -> None:
        """openapi-core takes parameters that nobody described."""
        for template, item in self.description["paths"].items():
            pattern = re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(template))
            if re.fullmatch(pattern, self.prefix + asked.path):
                told = [*item.get("parameters", []), *item.get(asked.verb.lower(), {}).get("parameters", [])]
                if unknown := set(asked.query) - {self._resolved(one)["name"] for one in told}:
                    raise OpenAPIError(f"no such parameter: {sorted(unknown)}")
                return

    def _resolved(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in part:
            return part
        _, _, kind, name = part["$ref"].split("/")
        found: Mapping[str, Any] = self.description["components"][kind][name]
        return found

    def _violation(self, asked: Asked, error: OpenAPIError, answer: Answer | None = None) -> Answer:
        cause = error.__cause__
        errors = list(getattr(cause, "schema_errors", [])) if cause is not None else []
        told = "; ".join(str(one.message)[:200] for one in errors) or repr(cause or error)
        side = "request" if answer is None else f"answer {answer.status}"
        self.violations.append(f"{side} of {asked.verb} {asked.path}: {told}")
        return Answer(500, {"message": self.violations[-1]})

    def _routed(self, asked: Asked) -> Answer:
        for verb, pattern, action in self.routes():
            found = pattern.fullmatch(asked.path)
            if found and verb == asked.verb:
                return action(asked, **{name: unquote(value) for name, value in found.groupdict().items()})
        raise AssertionError(f"described and not made: {asked.verb} {asked.path}")

    def pages(self, asked: Asked, items: list[Any], *, default: int) -> tuple[list[Any], dict[str, str]]:
        """One page, and the headers that say where the others are."""
        size = min(100, int(asked.query.get("per_page", default)))
        page = int(asked.query.get("page", 1))
        last = max(1, -(-len(items) // size))
        base = f"{self.address}{self.prefix}{asked.path}?" + "".join(
            f"{name}={value}&" for name, value in asked.query.items() if name != "page"
        )
        linked = [("next", page + 1), ("last", last)] if page < last else []
        linked += [("prev", page - 1), ("first", 1)] if page > 1 else []
        headers = (
            {"Link": ", ".join(f'<{base}page={number}>; rel="{name}"' for name, number in linked)} if linked else {}
        )
        following = {"X-Next-Page": str(page + 1) if page < last else "", "X-Page": str(page), "X-Per-Page": str(size)}
        return items[(page - 1) * size : page * size], {**headers, **following}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    forge: Served


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        assert isinstance(self.server, _Server)
        forge = self.server.forge
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        path = parts.path.removeprefix(forge.prefix)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        body = json.loads(raw) if raw else None
        answer = forge.answer(Asked(self.command, path, query, body, dict(self.headers.items())))
        if answer is None:
            self._hang_up()
            return
        data = answer.body if isinstance(answer.body, bytes) else b""
        if answer.body is not None and not isinstance(answer.body, bytes):
            data = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json; charset=utf-8", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _hang_up(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve  # noqa: N815  # as the library calls them

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""
