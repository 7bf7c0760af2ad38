"""Who gets past the guard of a server, and who does not: without a password, by another name, from another page."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from flows.machine.guard import LARGEST_FORM, Guard

HERE, PASSWORD = "http://127.0.0.1:5000", "p/ss wörd+%"
HTML = {"Accept": "text/html"}
LINK = {**HTML, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


async def echo(request: Request) -> PlainTextResponse:
    body = await request.body()
    return PlainTextResponse(f"{request.method} {request.url.path}?{request.url.query} {body.decode()}")


async def talk(socket: WebSocket) -> None:
    """As Prefect's: a client of the subprotocol is to say who it is first, others are told at once."""
    if "prefect" in socket.scope["subprotocols"]:
        await socket.accept("prefect")
        try:
            await socket.receive_json()
        except WebSocketDisconnect:
            return
    else:
        await socket.accept()
    await socket.send_text("secret")
    await socket.close()


METHODS = ["GET", "POST", "PUT", "DELETE", "OPTIONS"]
APP = Starlette(
    routes=[WebSocketRoute("/talk", talk), Route("/{path:path}", echo, methods=METHODS)],
    middleware=[Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"])],
)
GUARD = Guard(APP, PASSWORD, "Test", ["mlflow:5000", "*.example.org"])


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


KNOWN = {"Authorization": basic(f"anybody:{PASSWORD}")}


@pytest.fixture
def client() -> TestClient:
    return TestClient(GUARD, HERE, follow_redirects=False)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "path", ["/", "/api/deployments/", "/health/../api", "/api/health2", "//health", "/openapi.json"]
)
def test_nothing_is_answered_without_the_password(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, f"{HERE}{path}")
    assert answer.status_code == 401 and method not in answer.text


def test_health_is_told_to_everybody_of_this_machine(client: TestClient) -> None:
    assert client.get("/health").status_code == client.get("/api/health").status_code == 200
    assert client.post("/api/health").status_code == 401
    assert client.get("/health", headers={"Host": "evil.com"}).status_code == 403


@settings(max_examples=15)
@given(st.text(max_size=50))
@example(PASSWORD)
def test_only_the_password_is_the_password(text: str) -> None:
    client = TestClient(GUARD, HERE, follow_redirects=False)
    status = 200 if text == PASSWORD else 401
    assert client.get("/x", headers={"Authorization": basic(f"a:{text}")}).status_code == status
    assert client.get("/x", params={"password": text}).status_code == (303 if text == PASSWORD else 401)
    assert client.post("/sesame-login", data={"password": text}).status_code == (303 if text == PASSWORD else 401)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic " + "=" * 9,
        f"Bearer {PASSWORD}".encode(),
        basic(PASSWORD),
        basic("a:"),
        b"Basic \xff",
    ],
)
def test_a_header_that_holds_no_password_lets_nobody_in(client: TestClient, value: Any) -> None:
    assert client.get("/x", headers={"Authorization": value}).status_code == 401


def test_a_link_lets_in_once_and_for_all_and_leaves_the_address(client: TestClient) -> None:
    answer = client.get("/runs", params={"a": "1", "password": PASSWORD, "b": "ö"}, headers=LINK)
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs?a=1&b=%C3%B6")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and PASSWORD not in cookie
    assert client.get("/runs").status_code == 200
    assert client.post("/runs", headers={"Origin": HERE}).status_code == 200


def test_a_cookie_of_another_server_lets_nobody_in(client: TestClient) -> None:
    other = TestClient(Guard(APP, PASSWORD, "Test", cookie="other"), HERE, follow_redirects=False)
    name, value = next(iter(dict(other.get("/", params={"password": PASSWORD}).cookies).items()))
    for cookie in (f"{name}={value}", f"sesame-test={value}", "sesame-test=", "sesame-test", "=;;,\\", "a" * 5000):
        assert client.get("/x", headers={"Cookie": cookie}).status_code == 401
    assert other.get("/x").status_code == 200


def test_a_person_is_asked_and_sent_on(client: TestClient) -> None:
    page = client.get("/flows/1", params={"a": '"><script>'}, headers=HTML)
    assert (
        page.status_code == 401 and "<script>" not in page.text and 'value="/flows/1?a=%22%3E%3Cscript%3E"' in page.text
    )
    wrong = client.post("/sesame-login", data={"password": "no", "next": "/flows/1"}, headers={"Origin": HERE})
    assert wrong.status_code == 401 and "not the password" in wrong.text
    right = client.post("/sesame-login", data={"password": PASSWORD, "next": "/flows/1"}, headers={"Origin": HERE})
    assert (right.status_code, right.headers["location"]) == (303, "/flows/1")
    assert client.get("/flows/1", headers=HTML).status_code == 200


@pytest.mark.parametrize(
    "address", ["//evil.com", "https://evil.com", "/\\evil.com", "\\\\evil.com", "/a\r\nX: y", "ö"]
)
def test_nobody_is_sent_to_another_server(client: TestClient, address: str) -> None:
    answer = client.post("/sesame-login", data={"password": PASSWORD, "next": address})
    location = answer.headers["location"]
    assert location.startswith("/") and not location.startswith(("//", "/\\")) and "\n" not in location


def test_a_large_form_is_not_read(client: TestClient) -> None:
    assert client.post("/sesame-login", content=b"a" * LARGEST_FORM + b"&password=x").status_code == 401


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9", "localhost:5000", "LOCALHOST", "[::1]:5000", "mlflow:5000", "a.example.org"]
)
def test_names_of_this_server_are_known(client: TestClient, host: str) -> None:
    assert client.get("/x", headers={**KNOWN, "Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.com", "evil.com:5000", "127.0.0.1.evil.com", "localhost.evil.com:5000", "mlflow", "mlflow:50000",
             "example.org.evil.com", "xmlflow:5000", "a:1", "", "[::1].evil.com", "0.0.0.0:5000", "10.0.0.1",
             "localhost:5000@evil.com", "localhost:evil.com", "127.0.0.1:", "127.0.0.1:5000/x"]
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/health", "/sesame-login"])
def test_other_names_are_refused_with_any_password(client: TestClient, host: str, path: str) -> None:
    """A page whose name was made to point here gives its own name."""
    assert client.get(path, headers={**KNOWN, "Host": host}).status_code == 403


ORIGINS = ["http://evil.com", "null", "http://127.0.0.1", "http://127.0.0.1:5001", "http://localhost:5000", "file://",
           "", "http://127.0.0.1:5000.evil.com", "http://127.0.0.1:5000@evil.com",
           "http://a@127.0.0.1:5000"]  # fmt: skip


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("method", METHODS)
def test_pages_of_other_sites_are_refused_with_any_password(client: TestClient, method: str, origin: str) -> None:
    headers = {**KNOWN, "Origin": origin, "Access-Control-Request-Method": "POST"}
    answer = client.request(method, "/x", headers=headers)
    assert answer.status_code == 403 and not any("access-control" in name for name in answer.headers)
    assert client.post("/sesame-login", data={"password": PASSWORD}, headers={"Origin": origin}).status_code == 403


def test_own_pages_are_answered_and_no_other_may_read_it(client: TestClient) -> None:
    answer = client.post("/x", headers={**KNOWN, "Origin": HERE, "Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 200 and not any("access-control" in name for name in answer.headers)
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert answer.headers["content-security-policy"].startswith("default-src 'self' data: blob:; script-src 'self' ")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_link_on_another_site_may_lead_here_but_nothing_else(client: TestClient, site: str) -> None:
    """Images, scripts and frames name no origin, and cookies go to every port of a machine."""
    headers = {**KNOWN, "Sec-Fetch-Site": site}
    assert client.get("/x", headers={**headers, **LINK}).status_code == 200
    for mode, dest in (("no-cors", "image"), ("no-cors", "script"), ("navigate", "iframe"), ("cors", "empty")):
        assert client.get("/x", headers={**headers, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}).status_code == 403
    assert client.post("/x", headers={**headers, **LINK}).status_code == 403


# -- web sockets ------------------------------------------------------------------------------------------------------


def hears(client: TestClient, headers: dict[str, str], first: object = None, prefect: bool = True) -> str:
    try:
        with client.websocket_connect(
            "ws://127.0.0.1:5000/talk", ["prefect"] if prefect else None, headers=headers
        ) as socket:
            if first is not None:
                socket.send_json(first)
            return socket.receive_text()
    except WebSocketDisconnect:
        return "closed"


def auth(text: str) -> dict[str, str]:
    return {"type": "auth", "token": text}


def test_sockets_want_the_password_in_the_header_the_cookie_or_the_first_message(client: TestClient) -> None:
    assert hears(client, {"Host": "127.0.0.1"}, auth(f"sesame:{PASSWORD}")) == "secret"
    assert hears(client, {"Host": "127.0.0.1", **KNOWN}, prefect=False) == "secret"
    client.get("/", params={"password": PASSWORD})
    assert hears(client, {"Host": "127.0.0.1:5000", "Origin": HERE}, prefect=False) == "secret"
    assert hears(client, {"Host": "127.0.0.1:5000", "Origin": HERE}, auth("")) == "secret"


@pytest.mark.parametrize(
    "first", [auth("a:b"), auth(""), auth(PASSWORD), {"type": "auth"}, {"type": "event"}, [], 1, "x"]
)
def test_sockets_of_others_are_closed(client: TestClient, first: object) -> None:
    assert hears(client, {"Host": "127.0.0.1"}, first) == "closed"
    assert hears(client, {"Host": "127.0.0.1"}, prefect=False) == "closed"


@pytest.mark.parametrize("headers", [{"Host": "evil.com"}, {"Host": "127.0.0.1:5000", "Origin": "http://evil.com"}])
def test_sockets_of_other_pages_are_closed(client: TestClient, headers: dict[str, str]) -> None:
    assert hears(client, {**headers, **KNOWN}, auth(f"sesame:{PASSWORD}")) == "closed"


def test_a_guard_without_a_password_guards_nothing() -> None:
    with pytest.raises(ValueError, match="needs a password"):
        Guard(APP, "", "Test")
