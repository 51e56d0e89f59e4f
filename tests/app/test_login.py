"""The whole way of a login: a real server, a provider on this machine, and a client that keeps cookies."""

from __future__ import annotations

import contextlib
import html
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import RSAKey
from provider import CLIENT, SECRET, Provider, running_provider
from starlette.requests import Request
from starlette.responses import Response
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from app.gate import NOT_PAGES
from app.wanted import AGE_S, Keeper, Wanted, asked_address
from rsfm.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
WANTED = "/degradation?dataset=landsat7-sample&model=a%26b%20c&model=%C3%A9%2Bd&metric=accuracy"
SECRETS = """
[auth]
redirect_uri = "http://127.0.0.1:{port}/oauth2callback"
cookie_secret = "0123456789abcdef0123456789abcdef"
[auth.institute]
client_id = "{client}"
client_secret = "{secret}"
server_metadata_url = "{url}/.well-known/openid-configuration"
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running_provider() as running:
        yield running


@pytest.fixture(scope="module")
def server(provider: Provider, lab: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a dashboard that lets in who has an address at lab.example."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("login")
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "secrets.toml").write_text(
        SECRETS.format(port=port, client=CLIENT, secret=SECRET, url=provider.url)
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("RSFM_WORKSPACE", "RSFM_TOKEN")}
    command = [sys.executable, "-c", "from rsfm.cli import main; main()", "app", "--allow-user", "@lab.example"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--workspace", str(lab.root)], stdout=log, stderr=log, cwd=folder,
            env={**environment, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    try:
        for _ in range(600):
            try:
                httpx.get(f"http://127.0.0.1:{port}/rsfm/health", timeout=20)
                break
            except httpx.TransportError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def browser(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, headers={"accept": "text/html"}, timeout=20) as client:
        yield client


def link(page: httpx.Response) -> str:
    """The one link of a login page."""
    found = re.findall(r'<a href="([^"]*)">', page.text)
    assert page.status_code == 401 and len(found) == 1, page.text
    return html.unescape(found[0])


def follow(browser: httpx.Client, address: str) -> tuple[list[httpx.Response], httpx.Response]:
    """The answers on the way from one address, and the one at its end."""
    answer = browser.get(address, follow_redirects=True)
    return [*answer.history, answer], answer


def tab(browser: httpx.Client) -> ClientConnection:
    """The websocket of a page that is opened in that browser."""
    cookies = "; ".join(f"{c.name}={c.value}" for c in browser.cookies.jar)
    stream = f"{str(browser.base_url).replace('http', 'ws', 1)}/_stcore/stream"
    return connect(stream, additional_headers={"Cookie": cookies}, open_timeout=10)


def inside(browser: httpx.Client) -> bool:
    """Whether the pages' websocket opens."""
    try:
        with tab(browser):
            return True
    except InvalidStatus:
        return False


def run(page: ClientConnection) -> str:
    """Have a page's script run, as a click does; what its last message is."""
    message = BackMsg()
    message.rerun_script.SetInParent()
    with contextlib.suppress(ConnectionClosed):  # what was said before it closed is read all the same
        page.send(message.SerializeToString())
    with contextlib.suppress(ConnectionClosed):
        for sent in page:
            said = ForwardMsg.FromString(sent).WhichOneof("type")
            if said in ("script_finished", "auth_redirect"):
                return said
    return "closed"


def place(answer: httpx.Response) -> str:
    return answer.url.raw_path.decode()


def test_a_login_ends_where_it_was_asked_for_and_a_logout_closes_the_door(
    provider: Provider, server: str, browser: httpx.Client
) -> None:
    provider.be("ada@lab.example")
    refused = browser.get(WANTED)
    assert "Log in with Institute" in refused.text and "set-cookie" not in refused.headers and not inside(browser)
    way, end = follow(browser, link(refused))
    assert end.status_code == 200 and place(end) == WANTED and str(end.url).startswith(server)
    assert [path for path, _ in provider.seen if path in ("/authorization", "/token")] == ["/authorization", "/token"]
    kept = next(c for c in way[0].headers.get_list("set-cookie") if c.startswith("rsfm_wanted_"))
    assert "HttpOnly" in kept and "SameSite=lax" in kept and f"Max-Age={AGE_S}" in kept and "Secure" not in kept
    assert inside(browser) and browser.get("/rsfm/health").status_code == 200
    # Once there, the address is forgotten: the front door leads where it always does.
    assert place(follow(browser, "/")[1]) == "/now" and not [c for c in browser.cookies if c.startswith("rsfm_wanted")]
    # The page that was refused is still open elsewhere: its link needs no second login.
    provider.seen.clear()
    assert place(follow(browser, link(refused))[1]) == WANTED and not provider.seen

    _, out = follow(browser, "/auth/logout")
    assert out.status_code == 401 and "not completed" not in out.text and not inside(browser)
    assert [path for path, _ in provider.seen if path == "/end_session"], "the provider is told too"
    assert browser.get(WANTED).status_code == 401


def test_a_logout_ends_what_other_tabs_show(provider: Provider, server: str, browser: httpx.Client) -> None:
    provider.be("ada@lab.example")
    follow(browser, link(browser.get(WANTED)))
    kept = dict(browser.cookies)
    with (
        httpx.Client(base_url=server, headers={"accept": "text/html"}, timeout=20) as elsewhere,
        httpx.Client(base_url=server, cookies=kept) as thief,
    ):
        follow(elsewhere, link(elsewhere.get(WANTED)))  # the same person, logged in once more
        with tab(browser) as first, tab(browser) as second, tab(elsewhere) as other:
            assert run(first) == run(second) == run(other) == "script_finished"
            follow(browser, "/auth/logout")
            for page in (first, second):
                assert run(page) == "auth_redirect", "no script runs any more: the page is sent to the login"
                assert run(page) == "closed" and page.close_code == 1008
            assert run(other) == "script_finished"
        assert not inside(thief) and thief.get("/rsfm/health").status_code == 401, "what the cookie said is over"
        assert inside(elsewhere)
    follow(browser, link(browser.get(WANTED)))
    assert inside(browser), "and the next login opens the door again"


def test_somebody_who_is_not_invited_is_told_so_and_can_come_back_as_somebody_else(
    provider: Provider, browser: httpx.Client
) -> None:
    provider.be("eve@evil.example")
    _, end = follow(browser, link(browser.get(WANTED)))
    assert end.status_code == 401 and "This account may not come in." in end.text and not inside(browser)
    assert browser.get("/rsfm/health").status_code == 401
    other = link(end)
    _, out = follow(browser, other)
    assert "may not come in" not in out.text and "not completed" not in out.text
    provider.be("ada@lab.example")
    _, end = follow(browser, link(out))
    assert end.status_code == 200 and place(end) == WANTED and inside(browser)


def test_an_address_that_the_provider_does_not_call_verified_stays_out(
    provider: Provider, browser: httpx.Client
) -> None:
    provider.be("ada@lab.example", email_verified=False)
    _, end = follow(browser, link(browser.get(WANTED)))
    assert end.status_code == 401 and "may not come in" in end.text and not inside(browser)


STRANGER = RSAKey.generate_key(2048, {"kid": "k"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"claims": {"nonce": "another"}}, {"claims": {"iss": "https://evil.example"}}, {"claims": {"aud": "another"}},
        {"claims": {"exp": 1}}, {"signed_by": STRANGER}, {"answer": {"state": "another"}}, {"answer": {"state": None}},
        {"answer": {"code": "another"}}, {"answer": {"code": None, "error": "access_denied"}},
    ],
    ids=["nonce", "issuer", "audience", "expired", "key", "state", "no-state", "code", "denied"],
)  # fmt: skip
def test_an_answer_that_is_not_the_right_one_opens_nothing(
    provider: Provider, browser: httpx.Client, wrong: dict
) -> None:
    provider.be("ada@lab.example")
    for name, value in wrong.items():
        setattr(provider, name, value)
    _, end = follow(browser, link(browser.get(WANTED)))
    assert end.status_code == 401 and "The login was not completed" in end.text and not inside(browser)
    provider.be("ada@lab.example")
    assert place(follow(browser, link(end))[1]) == WANTED, "and the next try still knows the way"


def test_the_answer_of_another_browser_opens_nothing(provider: Provider, browser: httpx.Client, server: str) -> None:
    """A link with somebody's answer must not log others in as that person."""
    provider.be("ada@lab.example")
    begun = browser.get(browser.get(link(browser.get(WANTED))).headers["location"])
    back = provider.authorize({k: v[0] for k, v in parse_qs(urlsplit(begun.headers["location"]).query).items()})
    with httpx.Client(base_url=server, headers={"accept": "text/html"}, timeout=20) as other:
        assert follow(other, back)[1].status_code == 401 and not inside(other)


ELSEWHERE = (
    "//evil.example/x", "/\\evil.example", "\\\\evil.example", "https://evil.example", "https:evil.example",
    "%2f%2fevil.example", "/%2f%2fevil.example", "%252f%252fevil.example", "/%5cevil.example", "/%09/evil.example",
    "\t//evil.example", "/\n/evil.example", "javascript:alert(1)", "///evil.example", "/.//evil.example",
    "evil.example", "@evil.example", "//evil.example?/now", "?//evil.example", "", "#//evil.example",
)  # fmt: skip


def test_a_login_leads_nowhere_else(provider: Provider, server: str, browser: httpx.Client) -> None:
    provider.be("ada@lab.example")
    follow(browser, link(browser.get("/now")))
    assert inside(browser)
    identity = dict(browser.cookies)
    for there in ELSEWHERE:
        asked = {"provider": "institute", "next": there}
        browser.cookies.clear()
        begun = browser.get("/rsfm/login", params=asked)
        assert begun.headers["location"].startswith("/auth/login?provider="), there
        # The provider's answer ends at "/", with the identity and what was kept; a link that is old needs neither.
        browser.cookies.update(identity)
        for answer in (browser.get("/"), browser.get("/rsfm/login", params=asked)):
            to = answer.headers["location"]
            assert answer.status_code == 303 and re.match(r"/(?![/\\])", to), (there, to)
            assert re.fullmatch(r"[\x21-\x7e]+", to), "nothing that a browser would leave out of an address"


@pytest.mark.parametrize(
    "path", [*NOT_PAGES, "/auth/logout/", "/./auth//logout", "/x/../auth/logout", "%2fauth/logout"]
)
def test_nobody_is_sent_to_an_address_that_does_something(path: str) -> None:
    assert asked_address(f"{path}?a=1", NOT_PAGES) == "/now"


def asked(cookies: dict[str, str] | None = None, port: int = 80, **headers: str) -> Request:
    given = {**headers, "cookie": "; ".join(f"{k}={v}" for k, v in (cookies or {}).items())}
    return Request({
        "type": "http", "scheme": "http", "server": ("lab", port),
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in given.items()],
    })  # fmt: skip


def test_what_is_kept_is_short_lived_ours_and_of_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, answer, wanted = Keeper(), Response(), Wanted("/runs?a=1;b=\"é'", True)
    keeper.keep(asked(x_forwarded_proto="https"), answer, wanted)
    header = answer.headers["set-cookie"]
    name, value = header.partition(";")[0].split("=", 1)
    assert "Secure" in header and keeper.kept(asked({name: value})) == wanted
    assert keeper.kept(asked({name: value}, port=81)) is None and keeper.kept(asked()) is None
    # Not the last character: some of its bits mean nothing.
    forged = f"{value[:-2]}{'a' if value[-2] != 'a' else 'b'}{value[-1]}"
    assert keeper.kept(asked({name: forged})) is None
    assert Keeper().kept(asked({name: value})) is None, "of another start of the server"
    monkeypatch.setattr("app.wanted.AGE_S", -1)
    assert keeper.kept(asked({name: value})) is None


def test_an_address_too_long_for_a_cookie_is_said_and_left(provider: Provider, browser: httpx.Client) -> None:
    provider.be("ada@lab.example")
    long = f"{WANTED}&text={os.urandom(4000).hex()}"
    page = browser.get(long)
    assert "too long to be kept" in page.text
    assert place(follow(browser, link(page))[1]) == "/now"
