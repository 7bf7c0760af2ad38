"""A guard in front of a web application: it lets in who knows the password, and pages of the application itself.

    request ──► names this server? ──► from its own pages? ──► knows the password? ──► application
                403                    403                     401, for a person a page that asks for it

The first keeps out pages whose name was made to point here (DNS rebinding), the second those of other sites (CORS,
CSRF), the third everybody else on this machine. A password is given as HTTP Basic authentication, with any user name;
once in a link (`?password=…`) or on the page that asks, after which a cookie stands for it; or, over a web socket, as
the first message, as Prefect's clients do. Only checks of health are answered without one.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import html
import json
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "127.0.0.1:*", "localhost", "localhost:*", "[[]::1]", "[[]::1]:*")
"""Names of this machine that no other site can have; `[[]` is a bracket in a pattern."""
LOGIN = "/sesame-login"
PARAMETER = "password"  # of the link
COOKIE_SECONDS = 30 * 24 * 3600
LARGEST_FORM = 4096  # bytes
HEALTH = ("/health", "/api/health")
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"SAMEORIGIN",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"referrer-policy": b"same-origin",
}
"""Of every answer: other sites may neither frame it nor read it, nor learn an address of it."""
POLICY = (
    b"default-src 'self' data: blob:; script-src 'self' blob: 'unsafe-inline' 'unsafe-eval'; "
    b"style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'self'"
)
"""Of every answer, besides what the application says itself: its pages only load from this server, so that a picture in
a description tells no other that and from where it is looked at."""
_HOST = re.compile(r"(?:\[[0-9a-f:.]+\]|[^\s:@/?#\\\[\]]+)(?::\d{1,5})?")

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>
body {{ font: 16px system-ui, sans-serif; max-width: 26rem; margin: 20vh auto; padding: 0 1rem; color: #222 }}
input {{ font: inherit; width: 100%; box-sizing: border-box; padding: .5rem; margin: .5rem 0 }}
button {{ font: inherit; padding: .5rem 1.5rem }} .wrong {{ color: #b00 }}
</style></head><body><h1>{name}</h1><p>{wrong}The link that <code>sesame ui</code> prints lets you in; or give the
password that is in it.</p>
<form method="post" action="{login}"><input type="hidden" name="next" value="{next}">
<input type="password" name="password" autofocus required aria-label="Password"
 autocomplete="current-password"><button>Open</button></form></body></html>
"""


class Guard:
    """An ASGI application that guards another one.

    name: of the server, as the page that asks for the password says it. hosts: patterns of names, each with or without
    a port, under which the server is known besides loopback (`mlflow:5000`, `*.example.org`). cookie: tells this
    server's cookie from those of others on the same machine, which all of them get.
    """

    def __init__(self, app: App, password: str, name: str, hosts: Collection[str] = (), cookie: str = "") -> None:
        if not password:
            raise ValueError("a guard needs a password")
        self._app, self._password, self._name = app, password, name
        self._hosts = [pattern.lower() for pattern in (*LOOPBACK, *hosts)]
        self._cookie_name = f"sesame-{cookie or name.lower()}"
        self._cookie = hmac.new(password.encode(), self._cookie_name.encode(), hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):  # the application's start and end
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        refusal = self._refusal(scope, headers)
        if scope["type"] == "websocket":
            await self._websocket(scope, headers, refusal, receive, send)
        elif refusal:
            await _answer(send, 403, f"{refusal}\n")
        elif scope["method"] in ("GET", "HEAD") and scope["path"] in HEALTH:
            await self._app(scope, receive, _guarded(send))
        elif scope["path"] == LOGIN and scope["method"] == "POST":
            await self._log_in(receive, send)
        elif given := [value for name, value in _query(scope) if name == PARAMETER and scope["method"] == "GET"]:
            await self._let_in(given[0], _without_password(scope), send)
        elif self._knows(headers):
            await self._app(scope, receive, _guarded(send))
        elif "text/html" in headers.get("accept", [""])[0] and scope["method"] == "GET":
            await self._ask(send, _without_password(scope))
        else:
            await _answer(send, 401, f"{self._name} wants a password\n")

    # -- where a request comes from -----------------------------------------------------------------------------------

    def _refusal(self, scope: Scope, headers: dict[str, list[str]]) -> str | None:
        """Why a request is refused, no matter by whom: it names another server, or comes from another site's page."""
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self._is_ours(hosts[0].lower()):
            return f"{self._name} is not known by that name; SESAME_ALLOWED_HOSTS lists names"
        for origin in headers.get("origin", []):
            if urlsplit(origin).netloc.lower() != hosts[0].lower():
                return f"{self._name} answers only to its own pages"
        site = headers.get("sec-fetch-site", ["none"])[0]
        is_link = (
            scope["type"] == "http"
            and scope["method"] in ("GET", "HEAD")
            and headers.get("sec-fetch-mode") == ["navigate"]
            and headers.get("sec-fetch-dest") == ["document"]
        )
        if site not in ("none", "same-origin") and not is_link:
            return f"{self._name} answers only to its own pages"
        return None

    def _is_ours(self, host: str) -> bool:
        return _HOST.fullmatch(host) is not None and any(fnmatch.fnmatchcase(host, name) for name in self._hosts)

    # -- who makes it -------------------------------------------------------------------------------------------------

    def _knows(self, headers: dict[str, list[str]]) -> bool:
        return any(map(self._is_basic, headers.get("authorization", []))) or any(
            hmac.compare_digest(value.encode(), self._cookie.encode()) for value in _cookies(headers, self._cookie_name)
        )

    def _is_basic(self, value: str) -> bool:
        scheme, _, credentials = value.partition(" ")
        try:
            decoded = base64.b64decode(credentials, validate=True).decode()
        except (binascii.Error, ValueError):
            return False
        return scheme.lower() == "basic" and self._is_password(decoded.partition(":")[2])

    def _is_password(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._password.encode())

    async def _log_in(self, receive: Receive, send: Send) -> None:
        """Answer the form of the page that asks."""
        body = b""
        while len(body) <= LARGEST_FORM:
            message = await receive()
            body += message.get("body", b"")
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                break
        form = dict(parse_qsl(body[:LARGEST_FORM].decode("utf-8", "replace")))
        await self._let_in(form.get("password", ""), form.get("next", "/"), send)

    async def _let_in(self, given: str, address: str, send: Send) -> None:
        """Set the cookie and lead to `address`, which no longer holds the password; ask again if it is wrong."""
        if not self._is_password(given):
            await self._ask(send, address, '<span class="wrong">That is not the password.</span> ')
            return
        cookie = f"{self._cookie_name}={self._cookie}; Path=/; HttpOnly; SameSite=Lax; Max-Age={COOKIE_SECONDS}"
        own = "/" + "".join(filter(str.isprintable, address)).lstrip("/\\")  # never an address of another server
        headers = {b"location": own.encode("ascii", "ignore"), b"set-cookie": cookie.encode()}
        await _answer(send, 303, "", headers)

    async def _ask(self, send: Send, address: str, wrong: str = "") -> None:
        page = PAGE.format(name=html.escape(self._name), login=LOGIN, next=html.escape(address), wrong=wrong)
        await _answer(send, 401, page, {b"content-type": b"text/html; charset=utf-8"})

    async def _websocket(
        self, scope: Scope, headers: dict[str, list[str]], refusal: str | None, receive: Receive, send: Send
    ) -> None:
        knows = self._knows(headers)
        says_it_first = "prefect" in scope.get("subprotocols", ())  # then the application waits for it, too
        if refusal or not (knows or says_it_first):
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._app(scope, receive if knows else self._checked(receive, send), send)

    def _checked(self, receive: Receive, send: Send) -> Receive:
        """`receive`, for which the socket is closed if the first message of a client is not the password."""
        let_in = False

        async def checked() -> Message:
            nonlocal let_in
            message = await receive()
            if message["type"] != "websocket.receive" or let_in:
                return message
            let_in = self._is_password(_token(message).partition(":")[2])
            if let_in:
                return message
            await send({"type": "websocket.close", "code": 1008, "reason": "Invalid token"})
            return {"type": "websocket.disconnect", "code": 1008}

        return checked


# -- HTTP -------------------------------------------------------------------------------------------------------------


def _headers(scope: Scope) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return headers


def _cookies(headers: dict[str, list[str]], name: str) -> list[str]:
    values = []
    for header in headers.get("cookie", []):
        try:
            cookie = SimpleCookie(header).get(name)
        except CookieError:
            continue
        if cookie is not None:
            values.append(cookie.value)
    return values


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _without_password(scope: Scope) -> str:
    """The path and query of a request."""
    query = urlencode([(name, value) for name, value in _query(scope) if name != PARAMETER])
    path = scope.get("raw_path", b"").decode("ascii", "ignore").partition("?")[0] or scope["path"]
    return f"{path}?{query}" if query else path


def _token(message: Message) -> str:
    """The token of Prefect's first message; empty if it is another one."""
    try:
        first = json.loads(message.get("text") or message.get("bytes") or b"")
    except ValueError:
        return ""
    is_token = isinstance(first, dict) and first.get("type") == "auth" and isinstance(first.get("token"), str)
    return first["token"] if is_token else ""


def _guarded(send: Send) -> Send:
    """`send` with our headers; those that would let other sites read the answer are left out."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [
                (name, value)
                for name, value in message.get("headers", [])
                if name.lower() not in HEADERS and not name.lower().startswith(b"access-control-")
            ]
            message = {**message, "headers": [*kept, *HEADERS.items(), (b"content-security-policy", POLICY)]}
        await send(message)

    return guarded


async def _answer(send: Send, status: int, text: str, headers: dict[bytes, bytes] | None = None) -> None:
    body = text.encode()
    own = {b"content-type": b"text/plain; charset=utf-8", b"cache-control": b"no-store", **(headers or {})}
    own[b"content-length"] = str(len(body)).encode()
    send = _guarded(send)
    await send({"type": "http.response.start", "status": status, "headers": list(own.items())})
    await send({"type": "http.response.body", "body": body})
