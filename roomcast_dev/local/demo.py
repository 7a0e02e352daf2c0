"""The demo page of the local run, and the two things that only a backend can do for it: a token and a send.

Nothing of this is deployed: the stacks do not know this file. It answers only to the loopback names, so
that no web page elsewhere can get a token by a request to, or a DNS name for, this machine.
"""

from __future__ import annotations

import asyncio
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from roomcast import RoomcastError, WebSocketService
from roomcast.names import Role
from roomcast.settings import Settings
from roomcast.tokens.authentication import sign_token
from roomcast_dev.local.aws import LocalSession
from roomcast_dev.local.wire.messages import Handler, Request, Response

_PACKED = Path(__file__).parent / "page"
# In the wheel the page is a copy next to this file; in a checkout it is the client's own demo.
CLIENT = _PACKED if _PACKED.is_dir() else Path(__file__).parent.parent.parent / "client"
TOKEN_SECONDS = 3600
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_PART = re.compile(r"/(?:[a-z]+\.(?:css|js))?")
_MODULE = re.compile(r"/client/([a-z]+\.js)")


def create(environment: Mapping[str, str]) -> Handler:
    """Make the handler of the demo page.

    Args:
        environment: what the local run writes into its env file.

    Returns:
        A handler for `GET /`, the page's files, `POST /_demo/token`, `/_demo/send` and `/_demo/grant`;
        None for every other path.
    """
    service = _service(environment)
    actions: Mapping[str, Callable[[dict[str, Any]], object]] = {
        "/_demo/token": lambda body: _token(environment["JWT_SECRET"], body),
        "/_demo/send": lambda body: _send(service, body),
        "/_demo/grant": lambda body: _grant(service, body),
    }

    async def handle(request: Request) -> Response | None:
        action = actions.get(request.path)
        path, content_type = _file(request.path)
        if action is None and path is None:
            return None
        if not _is_local(request):
            return _problem(403, "the demo page answers only to localhost")
        if action is None or path is not None:
            return _serve(request, path, content_type)
        if request.method != "POST":
            return _problem(405, "POST this")
        # A page of another origin can post a form unasked, but no JSON.
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            return _problem(415, "the body must be application/json")
        try:
            body = json.loads(request.body)
            # The library blocks while it posts; this event loop is the one that has to take those posts.
            return Response.json(await asyncio.to_thread(action, body))
        except KeyError as error:
            return _problem(400, f"{error.args[0]} is missing")
        except (TypeError, ValueError, RecursionError, RoomcastError) as error:
            return _problem(400, str(error))

    return handle


def user_id(name: str) -> str:
    """Make a user id of what a person typed as a name: `Zoë B.` is `zoe-b.`, and `名前` is `guest`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_.@-]+", "-", plain).strip("-")[:64] or "guest"


def _token(secret: str, body: dict[str, Any]) -> object:
    name = str(body["name"]).strip()[:100]
    user = user_id(name)
    role: Role = "admin" if body.get("role") == "admin" else "user"
    token = sign_token(secret, user_id=user, role=role, name=name, ttl=TOKEN_SECONDS)
    return {"token": token, "userId": user, "role": role, "name": name}


def _send(service: WebSocketService, body: dict[str, Any]) -> object:
    kind, event, data = body["to"], body["event"], body.get("data")
    if kind == "all":
        return asdict(service.broadcast(event, data))
    if kind == "user":
        return asdict(service.send_to_user(body["target"], event, data))
    if kind == "room":
        return asdict(service.send_to_room(body["target"], event, data))
    raise ValueError("to must be user, room or all")


def _grant(service: WebSocketService, body: dict[str, Any]) -> object:
    service.grant_room(body["room"], body["userId"])
    return {"room": body["room"], "userId": body["userId"]}


def _service(environment: Mapping[str, str]) -> WebSocketService:
    """The library as a backend has it."""
    return WebSocketService.from_settings(
        Settings.from_env(environment), session=LocalSession(environment["AWS_ENDPOINT_URL"])
    )


def _file(path: str) -> tuple[Path | None, str]:
    if module := _MODULE.fullmatch(path):
        return CLIENT / "dist" / module[1], _TYPES[".js"]
    if _PART.fullmatch(path):
        file = CLIENT / "demo" / (path[1:] or "index.html")
        if file.is_file():
            return file, _TYPES[file.suffix]
    return None, ""


def _serve(request: Request, path: Path | None, content_type: str) -> Response:
    if request.method not in ("GET", "HEAD"):
        return _problem(405, "GET this")
    if path is None or not path.is_file():
        return _problem(404, f"{request.path} is not here; is the client built? Run: make setup")
    headers = {
        "Content-Type": content_type,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
            f"connect-src 'self' ws://{request.headers.get('host', 'localhost')}; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return Response(200, b"" if request.method == "HEAD" else path.read_bytes(), headers)


def _is_local(request: Request) -> bool:
    """Whether the page's own origin asks; `Host` is what a DNS name for this machine would change."""
    host = request.headers.get("host", "")
    origin = request.headers.get("origin")
    try:
        return (
            request.source_ip in _LOOPBACK  # `--host` lets other machines in, but not to this page
            and urlsplit(f"//{host}").hostname in _LOOPBACK
            and origin in (None, f"http://{host}")
        )
    except ValueError:
        return False


def _problem(status: int, message: str) -> Response:
    return Response.json({"message": message}, status=status)
