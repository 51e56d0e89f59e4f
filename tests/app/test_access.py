"""Who gets in: tokens, cookies, logins, host names; and what everybody else is told."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.access import Access, access_for, given_token, is_loopback
from app.gate import Attempts
from app.identity import COOKIE, Login, configured_login
from app.routes import TABLE, build_routes
from app.security import Guard
from app.wanted import own_address
from rsfm.errors import RsfmError
from rsfm.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "correct-horse-battery-staple"
WRONG = "incorrect-horse-battery-staple"
HOST = frozenset({"testserver"})
BEARER = {"authorization": f"Bearer {TOKEN}"}
BROWSER = {"accept": "text/html,application/xhtml+xml"}
ORIGIN = "https://lab.example"
#: One address for each route of the table.
FILLED = {path: re.sub(r"\{(\w+)(?::int)?\}", lambda m: "0" if m[1] in "zxyrow" else "abc", path) for path in TABLE}


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("in")
    await websocket.close()


def client_of(workspace: Workspace, access: Access) -> TestClient:
    inner = [
        WebSocketRoute("/_stcore/stream", echo),
        *build_routes(workspace),
        Mount("/", app=PlainTextResponse("page")),
    ]
    app = Starlette(routes=inner, middleware=[Middleware(Guard, access=access)])
    return TestClient(app, follow_redirects=False)


@pytest.fixture
def client(lab: Workspace) -> Iterator[TestClient]:
    with client_of(lab, Access(hosts=HOST, token=TOKEN)) as made:
        yield made


# -- the token ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", [f"/rsfm{p}" for p in FILLED.values()] + ["/", "/now", "/_stcore/upload_file", "/x"])
def test_every_address_asks(client: TestClient, lab: Workspace, path: str) -> None:
    for headers in ({}, {"authorization": f"Bearer {WRONG}"}, {"authorization": "Basic YTpi"}, {"cookie": "a=b"}):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 401 and answer.json() == {"error": "Authentication is required."}
        assert answer.headers["cache-control"] == "no-store" and "set-cookie" not in answer.headers
    for method in ("post", "put", "delete", "patch", "options"):
        assert getattr(client, method)(path).status_code in (401, 429)


def test_a_link_with_the_token_becomes_a_cookie(client: TestClient) -> None:
    answer = client.get(f"/runs?kind=pretrain&token={TOKEN}&state=a%26b")
    assert answer.status_code == 303 and answer.headers["location"] == "/runs?kind=pretrain&state=a%26b"
    assert TOKEN not in answer.text + str({k: v for k, v in answer.headers.items()})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie and "Secure" not in cookie
    assert client.get("/now").text == "page" and client.get("/rsfm/health").json() == {"status": "ok"}
    # An old link does no harm once inside, and nothing of it stays in the address.
    assert client.get(f"/runs?token={WRONG}").headers["location"] == "/runs"


def test_the_cookie_is_for_https_alone_where_people_come_by_https(client: TestClient) -> None:
    answer = client.get(f"/?token={TOKEN}", headers={"x-forwarded-proto": "https"})
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("forge", ["in", "in.abc.def", "\xff\xfe", "", "a" * 5000])
def test_cookies_that_are_not_ours(client: TestClient, forge: str) -> None:
    name = client.get(f"/?token={TOKEN}").headers["set-cookie"].partition("=")[0]
    client.cookies.clear()
    assert client.get("/now", headers={"cookie": f"{name}={forge}".encode("latin-1")}).status_code == 401


def test_a_cookie_ends(client: TestClient, lab: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = client.get(f"/?token={TOKEN}").headers["set-cookie"].partition(";")[0]
    with client_of(lab, Access(hosts=HOST, token=TOKEN)) as after_a_restart:
        assert after_a_restart.get("/now", headers={"cookie": cookie}).status_code == 401
    assert client.get("/now", headers={"cookie": cookie}).status_code == 200
    monkeypatch.setattr("app.gate.COOKIE_AGE_S", -1)
    assert client.get("/now", headers={"cookie": cookie}).status_code == 401


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "/%2f%2fevil.example", "/%09/evil.example"])
def test_nobody_is_sent_elsewhere(client: TestClient, path: str) -> None:
    answer = client.get(f"http://testserver{path}?token={TOKEN}")
    assert answer.status_code == 303 and re.match(r"/(?![/\\])", answer.headers["location"])
    form = {"token": TOKEN, "next": path}
    assert re.match(r"/(?![/\\])", client.post("/rsfm/login", data=form).headers["location"])
    assert own_address("https://evil.example").startswith("/https")


def test_the_login_page_needs_no_script(client: TestClient) -> None:
    page = client.get("/runs?kind=%22><script>alert(1)</script>", headers=BROWSER)
    assert page.status_code == 401 and "<script" not in page.text and 'name="token"' in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"] and "refresh" not in page.text
    there = re.search(r'name="next" value="([^"]*)"', page.text)[1]
    wrong = client.post("/rsfm/login", data={"token": WRONG, "next": there}, headers=BROWSER)
    assert wrong.status_code == 401 and "does not open" in wrong.text and WRONG not in wrong.text
    right = client.post("/rsfm/login", data={"token": f" {TOKEN} ", "next": there}, headers=BROWSER)
    assert right.status_code == 303 and right.headers["location"].startswith("/runs?kind=")
    assert client.get("/rsfm/login", headers=BROWSER).headers["location"] == "/now"
    assert client.post("/rsfm/login", content=b"x" * 10_000).status_code == 413


def test_a_link_on_another_site_takes_one_detour(client: TestClient) -> None:
    """A strict cookie is held back on the way from another site: the page asks once more from here."""
    there = client.get("/runs?a=1", headers={**BROWSER, "sec-fetch-site": "cross-site"})
    assert there.status_code == 401 and 'content="0;url=/runs?a=1"' in there.text
    assert "refresh" not in client.get("/runs?a=1", headers={**BROWSER, "sec-fetch-site": "same-origin"}).text


def test_guessing_is_slowed_down(lab: Workspace) -> None:
    with client_of(lab, Access(hosts=HOST, token=TOKEN)) as client:
        inside = client.get(f"/?token={TOKEN}").headers["set-cookie"].partition(";")[0]
        client.cookies.clear()
        codes = [client.get("/now", headers={"authorization": f"Bearer {WRONG}{i}"}).status_code for i in range(12)]
        assert codes == [401] * 9 + [429] * 3
        locked = client.get("/now", headers=BEARER)
        assert locked.status_code == 429 and 0 < int(locked.headers["retry-after"]) <= 61, "not even the right one"
        assert client.get("/now", headers={"cookie": inside}).status_code == 200, "whoever is in stays in"


def test_a_strange_host_is_no_address(lab: Workspace, secret_file: Path) -> None:
    """What a library puts together of Host and path must not decide."""
    for access in (Access(hosts=HOST, login=configured_login()), Access(hosts=HOST, token=TOKEN)):
        with client_of(lab, access) as client:
            for host in ("testserver/auth/login?", "testserver/rsfm/login?", "testserver:80/auth/login#",
                         "testserver:x", "a@testserver", "testserver\\@evil.example", ""):  # fmt: skip
                assert client.get("/rsfm/api/runs", headers={"host": host}).status_code in (401, 421), host


def test_pages_of_others_neither_open_nor_lock(client: TestClient) -> None:
    picture = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "image"}
    for _ in range(20):
        assert client.get(f"/?token={WRONG}", headers=picture).status_code == 401
    assert client.get(f"/?token={TOKEN}", headers=picture).status_code == 401
    followed = {**BROWSER, "sec-fetch-site": "cross-site", "sec-fetch-dest": "document"}
    opened = client.get(f"/now?a=1&token={TOKEN}", headers=followed)
    assert opened.status_code == 303 and "set-cookie" in opened.headers


def test_a_token_never_stays_in_the_address(client: TestClient) -> None:
    for i in range(12):
        answer = client.get(f"/runs?a=1&token={WRONG}{i}", headers=BROWSER)
        assert answer.status_code == 303 and answer.headers["location"] == "/runs?a=1"
        assert "set-cookie" not in answer.headers
    locked = client.get(f"/runs?a=1&token={TOKEN}", headers=BROWSER)
    assert locked.status_code == 303 and "set-cookie" not in locked.headers
    assert "wait a minute" in client.get("/runs?a=1", headers=BROWSER).text


def test_a_value_is_not_filled_in_again(client: TestClient) -> None:
    page = client.get("/now?a={{entry}}", headers={**BROWSER, "sec-fetch-site": "cross-site"}).text
    assert page.count("<form") == 1 and "{{" not in page.replace("{{entry}}", "")


def test_attempts_are_counted_by_address_and_forgotten() -> None:
    now = [0.0]
    attempts = Attempts(limit=2, window_s=10, addresses=2, clock=lambda: now[0])

    class From:
        def __init__(self, host: str) -> None:
            self.client = type("Client", (), {"host": host})

    for host in ("2001:db8::1", "2001:db8::2"):
        attempts.note(From(host))
    assert attempts.waits_s(From("::ffff:10.0.0.1")) == attempts.waits_s(From("10.0.0.1")) == 0
    assert attempts.waits_s(From("2001:db8::3")) == 10 and attempts.waits_s(From("2001:db8:0:1::1")) == 0
    now[0] = 10.5
    assert attempts.waits_s(From("2001:db8::1")) == 0
    for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        attempts.note(From(host))
    assert len(attempts._wrong) == 2


def test_websockets_ask_too(client: TestClient) -> None:
    def opens(**headers: str) -> bool:
        try:
            with client.websocket_connect("/_stcore/stream", headers={"host": "testserver", **headers}) as socket:
                return socket.receive_text() == "in"
        except WebSocketDisconnect as closed:
            assert closed.code == 1008
            return False

    cookie = client.get(f"/?token={TOKEN}").headers["set-cookie"].partition(";")[0]
    client.cookies.clear()
    assert not opens() and not opens(authorization=f"Bearer {WRONG}")
    assert opens(**BEARER) and opens(cookie=cookie, origin="http://testserver")
    assert not opens(cookie=cookie, origin="http://evil.example")
    assert not opens(cookie=cookie, host="evil.example")


# -- what is asked for where --------------------------------------------------------------------------------------
def test_loopback_is_open_and_nothing_else_is() -> None:
    assert is_loopback("127.0.0.9") and is_loopback("::1") and not is_loopback("127.0.0.1.evil.example")
    access, made = access_for("127.0.0.1", token=None, login=None)
    assert access.open and not made and not access.knows_host("192.168.1.7")
    for host, names in (("0.0.0.0", ()), ("192.168.1.7", ()), ("127.0.0.1", ("lab.example",))):
        access, made = access_for(host, token=None, login=None, allow_hosts=names)
        assert made and not access.open and len(access.token) >= 32
    one, other = (access_for("0.0.0.0", token=None, login=None)[0].token for _ in range(2))
    assert one != other
    assert access_for("127.0.0.1", token=TOKEN, login=None)[0].token == TOKEN


def test_the_address_that_a_login_comes_back_to_is_known() -> None:
    access, _ = access_for("127.0.0.1", token=None, login=Login("https://lab.example:8443", ("default",)))
    assert access.knows_host("lab.example") and not access.knows_host("evil.example")


def test_host_names_when_bound_elsewhere() -> None:
    access, _ = access_for("0.0.0.0", token=TOKEN, login=None, allow_hosts=("Lab.Example",))
    for known in ("lab.example", socket.gethostname(), "10.1.2.3", "2001:db8::1", "localhost"):
        assert access.knows_host(known)
    assert not access.knows_host("evil.example") and not access.knows_host("0x7f.1.evil.example")
    for wrong in ("http://lab.example", "lab.example:80", "", "*", "a b"):
        with pytest.raises(RsfmError, match="allow-host"):
            access_for("0.0.0.0", token=TOKEN, login=None, allow_hosts=(wrong,))


def test_tokens_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert given_token(file) == TOKEN and given_token(None) is None
    monkeypatch.setenv("RSFM_TOKEN", TOKEN)
    assert given_token(None) == TOKEN and "RSFM_TOKEN" not in os.environ, "jobs do not inherit it"
    monkeypatch.setenv("RSFM_TOKEN", TOKEN)
    with pytest.raises(RsfmError, match="one of them"):
        given_token(file)
    for weak in ("short", "x" * 15, "with blanks in between", ""):
        file.write_text(weak)
        with pytest.raises(RsfmError, match="at least 16"):
            given_token(file)
    with pytest.raises(RsfmError, match="cannot be read"):
        given_token(tmp_path / "none")


# -- logins -------------------------------------------------------------------------------------------------------
SECRETS = """
[auth]
redirect_uri = "{origin}/oauth2callback"
cookie_secret = "{secret}"
[auth.institute]
client_id = "a"
client_secret = "b"
server_metadata_url = "http://127.0.0.1:9/.well-known/openid-configuration"
"""
KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def secret_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`[auth]` in Streamlit's secrets, for one test."""
    from streamlit import config
    from streamlit.runtime.secrets import secrets_singleton

    file = tmp_path / "secrets.toml"
    file.write_text(SECRETS.format(origin=ORIGIN, secret=KEY))
    before = config.get_option("secrets.files")
    config.set_option("secrets.files", [str(file)])
    secrets_singleton._reset()
    monkeypatch.setattr("streamlit.auth_util.is_authlib_installed", lambda: True)
    monkeypatch.setattr("streamlit.auth_util.encode_provider_token", lambda name: f"for-{name}")
    yield file
    config.set_option("secrets.files", before)
    secrets_singleton._reset()


def identity(secret: str = KEY, **claims: object) -> dict[str, str]:
    """The cookie that Streamlit leaves after a login."""
    from streamlit.web.server.starlette.starlette_app_utils import create_signed_value

    known = {"email": "ada@lab.example", "email_verified": True, "is_logged_in": True, "origin": ORIGIN}
    user = {**known, "provider": "institute", **claims}
    return {"cookie": f"{COOKIE}={create_signed_value(secret, COOKIE, json.dumps(user)).decode()}"}


def test_an_identity_opens_pages_routes_and_websockets(lab: Workspace, secret_file: Path) -> None:
    login = configured_login()
    assert login == Login(ORIGIN, ("institute",))
    with client_of(lab, Access(hosts=HOST, login=login)) as client:
        for path in ("/now", "/rsfm/health", "/_stcore/health"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers=identity()).status_code == 200
            assert client.get(path, headers=identity(secret="f" * 32)).status_code == 401, "forged"
            assert client.get(path, headers=identity(origin="https://other.example")).status_code == 401
            assert client.get(path, headers=identity(is_logged_in=False)).status_code == 401
            assert client.get(path, headers={"cookie": f"{COOKIE}=x"}).status_code == 401
        for open_path in ("/auth/login", "/oauth2callback", "/auth/logout"):
            assert client.get(open_path).status_code == 200 and client.post(open_path).status_code == 401
        begun = client.get("/rsfm/login?provider=institute")
        assert begun.status_code == 303 and begun.headers["location"] == "/auth/login?provider=for-institute"
        for unknown in ("provider=default", "provider=", "next=/now"):
            page = client.get(f"/rsfm/login?{unknown}", headers={**BROWSER, "sec-fetch-site": "cross-site"})
            # The link leads to where the provider sends people back: a cookie under another name would be lost.
            assert page.status_code == 401 and f'href="{ORIGIN}/rsfm/login?provider=institute&amp;next=' in page.text
            assert "refresh" not in page.text and "set-cookie" not in page.headers
        with client.websocket_connect("/_stcore/stream", headers={"host": "testserver", **identity()}) as socket:
            assert socket.receive_text() == "in"
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect("/_stcore/stream", headers={"host": "testserver"}),
        ):
            pass


def test_scripts_may_send_the_token_beside_a_login(lab: Workspace, secret_file: Path) -> None:
    with client_of(lab, Access(hosts=HOST, login=configured_login(), token=TOKEN)) as client:
        assert client.get("/rsfm/health", headers=BEARER).status_code == 200
        assert client.get(f"/now?token={TOKEN}").status_code == 401
        assert client.post("/rsfm/login", data={"token": TOKEN}).status_code == 401


@pytest.mark.parametrize(
    ("users", "claims", "comes_in"),
    [
        (("ada@lab.example",), {}, True), (("@lab.example",), {"email": "Eve@Lab.Example"}, True),
        (("@lab.example",), {"email": "ada@evil.example"}, False), (("@lab.example",), {"email": None}, False),
        (("@lab.example",), {"email": "ada@lab.example", "email_verified": False}, False),
        (("@lab.example",), {"email": "ada@lab.example", "email_verified": "false"}, False),
        (("@lab.example",), {"email": "ada@lab.example", "email_verified": None}, False),
        (("ada@lab.example",), {"email": "x@lab.example@evil.example"}, False), ((), {"email": None}, True),
    ],
)  # fmt: skip
def test_who_is_invited(secret_file: Path, users: tuple[str, ...], claims: dict, comes_in: bool) -> None:
    login = replace(configured_login(), users=users)
    cookie = dict([identity(**claims)["cookie"].split("=", 1)])
    user = login.user(cookie)
    assert user is not None and login.invited(user) is comes_in


def test_a_login_that_cannot_work_is_refused_at_the_start(
    secret_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from streamlit.runtime.secrets import secrets_singleton

    def refused(text: str, match: str) -> None:
        secret_file.write_text(text)
        secrets_singleton._reset()
        with pytest.raises(RsfmError, match=match):
            configured_login()

    good = SECRETS.format(origin=ORIGIN, secret=KEY)
    refused("[auth", "cannot be read")
    refused(good.replace("client_secret", "x"), "client_secret")
    refused(SECRETS.format(origin=ORIGIN, secret="short"), "at least 32")
    with pytest.raises(RsfmError, match="@domain"):
        secret_file.write_text(good)
        secrets_singleton._reset()
        configured_login(["ada"])
    monkeypatch.setattr("streamlit.auth_util.is_authlib_installed", lambda: False)
    refused(good, "Authlib")
    secret_file.unlink()
    secrets_singleton._reset()
    assert configured_login() is None
    with pytest.raises(RsfmError, match="needs a login"):
        configured_login(["ada@lab.example"])
