"""The door: what opens it, and what a stranger is told."""

from __future__ import annotations

import hashlib
import html
import ipaddress
import re
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode

from itsdangerous import BadSignature, TimestampSigner
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from app.access import Access, as_address
from app.identity import LOGOUT_PATH, OPEN_PATHS, Login
from app.visits import Visits
from app.wanted import START, Keeper, Wanted, asked_address, by_https, own_address, own_cookie

LOGIN_PATH = "/rsfm/login"
#: Nobody is sent there after a login: these do something, and show nothing.
NOT_PAGES = (LOGIN_PATH, *OPEN_PATHS)
UNFINISHED = "The login was not completed: nobody is logged in."
TOO_LONG = "This address is too long to be kept while you log in: open it once more afterwards."
PAGE = Path(__file__).with_name("login.html")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
NO_STORE = {"Cache-Control": "no-store"}
MAX_FORM_BYTES = 8_192
#: A cookie opens the door for so long, and never longer than the server lives: its key is made at the start.
COOKIE_AGE_S = 30 * 86_400


class Attempts:
    """Wrong tokens by address: after `limit` of them within `window_s`, none from there is looked at for a while."""

    def __init__(
        self,
        limit: int = 10,
        window_s: float = 60.0,
        addresses: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit, self.window_s, self.addresses, self.clock = limit, window_s, addresses, clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    @staticmethod
    def _who(connection: HTTPConnection) -> str:
        host = connection.client.host if connection.client else ""
        address = as_address(host)
        if not isinstance(address, ipaddress.IPv6Address):
            return host
        if address.ipv4_mapped is not None:  # as a server bound to :: sees addresses of version 4
            return str(address.ipv4_mapped)
        # Whoever has one address of version 6 has the whole network of 64 bits.
        return str(ipaddress.ip_network((address, 64), strict=False))

    def waits_s(self, connection: HTTPConnection) -> float:
        """Seconds until a token from there is looked at again; 0: now."""
        times = self._wrong.get(self._who(connection))
        if not times or len(times) < self.limit:
            return 0.0
        return max(0.0, times[0] + self.window_s - self.clock())

    def note(self, connection: HTTPConnection) -> None:
        """A wrong token came from there."""
        who = self._who(connection)
        self._wrong.setdefault(who, deque(maxlen=self.limit)).append(self.clock())
        self._wrong.move_to_end(who)
        if len(self._wrong) > self.addresses:
            self._wrong.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class Gate:
    """Decides about one request or websocket of a dashboard that is not open (see `Access`)."""

    def __init__(self, access: Access, attempts: Attempts | None = None) -> None:
        self.access = access
        self.attempts = attempts or Attempts()
        self._token = _digest(access.token) if access.token else None
        self._keeper = Keeper()
        self.visits = Visits()
        self._signer = TimestampSigner(secrets.token_bytes(32), salt="rsfm.access", digest_method=hashlib.sha256)

    # -- what opens ------------------------------------------------------------------------------------------------
    def admits(self, connection: HTTPConnection) -> bool:
        """Whether a request or websocket shows an identity, our cookie, or the token in its `Authorization`."""
        if self.access.login is not None:
            user = self._user(self.access.login, connection)
            if user is not None and self.access.login.invited(user):
                return True
        elif self._cookie_is_ours(connection):
            return True
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._token_fits(connection, given.strip())

    def _user(self, login: Login, connection: HTTPConnection) -> dict[str, Any] | None:
        """Who shows an identity, of a login that is not over."""
        user = login.user(connection.cookies)
        return None if user is None or self.visits.is_over(login.visit(connection.cookies)) else user

    def visit(self, connection: HTTPConnection) -> str | None:
        """The login that a websocket ends with; None: it shows something else."""
        login = self.access.login
        return None if login is None or self._user(login, connection) is None else login.visit(connection.cookies)

    def _token_fits(self, connection: HTTPConnection, given: str) -> bool:
        """Compare a token in constant time; wrong ones are counted, and after too many nothing is compared."""
        if self._token is None or self.attempts.waits_s(connection):
            return False
        if secrets.compare_digest(_digest(given), self._token):
            return True
        self.attempts.note(connection)
        return False

    def _cookie_is_ours(self, connection: HTTPConnection) -> bool:
        given = connection.cookies.get(own_cookie(connection, "access"))
        if not given:
            return False
        try:
            self._signer.unsign(given.encode("latin-1", "replace"), max_age=COOKIE_AGE_S)
        except BadSignature:  # an expired one too
            return False
        return True

    # -- what is answered ------------------------------------------------------------------------------------------
    async def answer(self, request: Request) -> Response | None:
        """What a request is told; None: let it in."""
        # As they were sent: `request.url` is put together with the Host header, which a stranger writes.
        path, query = request.scope["path"], request.scope["query_string"].decode("latin-1")
        by_token = self._token is not None and self.access.login is None
        if by_token and path == LOGIN_PATH and request.method == "POST":
            return await self._log_in(request)
        reading = request.method in ("GET", "HEAD")
        if by_token and reading and "token" in request.query_params:
            rest = urlencode([(k, v) for k, v in parse_qsl(query, True) if k != "token"])
            there = own_address(path, rest)
            if not self._embedded(request) and self._token_fits(request, request.query_params["token"]):
                return self._open(request, there)
            if self.admits(request) or not self._is_api(request):  # a token must not stay in the address
                return RedirectResponse(there, 303, NO_STORE)
            return self._refuse(request, there)
        if self.access.login is not None and reading:
            return self._with_login(request, self.access.login, path, query)
        there = self._asked(request) if path == LOGIN_PATH else own_address(path, query)
        if self.admits(request):
            return RedirectResponse(there, 303, NO_STORE) if path == LOGIN_PATH else None
        return self._refuse(request, there)

    def _with_login(self, request: Request, login: Login, path: str, query: str) -> Response | None:
        """What a reader is told where a provider knows people: sent to it with the address kept, and on at the end."""
        if path == LOGOUT_PATH:
            self.visits.end(login.visit(request.cookies))
        if path in OPEN_PATHS:
            return None
        admitted = self.admits(request)
        if path == LOGIN_PATH:
            there = self._asked(request)
            return RedirectResponse(there, 303, NO_STORE) if admitted else self._begin(request, login, there)
        # The provider's answer, good or bad, ends at the front door.
        kept = self._keeper.kept(request) if path == "/" else None
        if not admitted:
            unfinished = kept is not None and kept.login and self._user(login, request) is None
            there = own_address(path, query) if kept is None else kept.place
            return self._refuse(request, there, said=UNFINISHED if unfinished else "")
        if kept is None:
            return None
        answer = RedirectResponse(kept.place, 303, NO_STORE)
        self._keeper.forget(request, answer)
        return answer

    def _begin(self, request: Request, login: Login, there: str) -> Response:
        """Send a stranger to a provider, or somebody who is not invited out, to come back as somebody else."""
        provider = request.query_params.get("provider")
        if "leave" in request.query_params:
            answer = RedirectResponse(LOGOUT_PATH, 303, NO_STORE)
        elif provider in login.providers:
            answer = RedirectResponse(login.start(provider), 303, NO_STORE)
        else:
            return self._refuse(request, there)
        self._keeper.keep(request, answer, Wanted(there, login=provider is not None))
        return answer

    @staticmethod
    def _asked(request: Request) -> str:
        return asked_address(request.query_params.get("next", START), NOT_PAGES)

    @staticmethod
    def _embedded(request: Request) -> bool:
        """Whether another site's page asks for a picture or a frame: it must neither open nor lock the door."""
        return (
            request.headers.get("sec-fetch-site") == "cross-site"
            and request.headers.get("sec-fetch-dest", "document") != "document"
        )

    @staticmethod
    def _is_api(request: Request) -> bool:
        """Whether whoever asks is a script, for which a page would be no answer."""
        return "text/html" not in request.headers.get("accept", "")

    def _open(self, request: Request, there: str) -> Response:
        answer = RedirectResponse(there, 303, NO_STORE)
        answer.set_cookie(
            own_cookie(request, "access"), self._signer.sign(secrets.token_hex(8)).decode(),
            httponly=True, samesite="strict", secure=by_https(request), path="/",
        )  # fmt: skip
        return answer

    async def _log_in(self, request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_FORM_BYTES:
                return JSONResponse({"error": "Too large."}, 413, NO_STORE)
        form = parse_qs(body.decode("utf-8", "replace"))
        there = asked_address(form.get("next", [START])[0], NOT_PAGES)
        if self._token_fits(request, form.get("token", [""])[0].strip()):
            return self._open(request, there)
        return self._refuse(request, there, said="This token does not open it.")

    def _refuse(self, request: Request, there: str, said: str = "") -> Response:
        """The login page for browsers, one sentence for scripts; neither says what is behind the door."""
        wait = self.attempts.waits_s(request)
        code, headers = (429, {"Retry-After": str(int(wait) + 1)}) if wait else (401, {"WWW-Authenticate": "Bearer"})
        if wait:
            said = "Too many wrong tokens: wait a minute."
        if self._is_api(request):
            return JSONResponse({"error": said or "Authentication is required."}, code, {**NO_STORE, **headers})
        page = PAGE.read_text(encoding="utf-8")
        login = self.access.login
        # Browsers hold our strict cookie back where another site's link led here: asked once more, from here, they
        # send it. Whoever has none then sees this page without the detour. A login's cookie is not strict.
        from_elsewhere = request.method == "GET" and request.headers.get("sec-fetch-site") == "cross-site"
        detour = from_elsewhere and not said and login is None
        values = {
            "detour": f'<meta http-equiv="refresh" content="0;url={html.escape(there)}">' if detour else "",
            "said": html.escape(said),
            "entry": self._form(there) if login is None else self._providers(request, login, there),
        }
        page = re.sub(r"\{\{(\w+)\}\}", lambda place: values[place[1]], page)
        return HTMLResponse(page, code, {**NO_STORE, **headers, "Content-Security-Policy": POLICY})

    def _form(self, there: str) -> str:
        return (
            f'<form method="post" action="{LOGIN_PATH}"><input type="hidden" name="next" value="{html.escape(there)}">'
            '<label for="token">Access token</label>'
            '<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>'
            "<button>Open</button></form>"
        )

    def _providers(self, request: Request, login: Login, there: str) -> str:
        def link(url: str, label: str, **what: str) -> str:
            address = f"{url}{LOGIN_PATH}?{urlencode({**what, 'next': there})}"
            return f'<a href="{html.escape(address)}">{html.escape(label)}</a>'

        warning = "" if self._keeper.fits(there) else f'<p role="alert">{TOO_LONG}</p>'
        if self._user(login, request) is not None:  # known to the provider, but not invited
            said = '<p role="alert">This account may not come in.</p>'
            return said + warning + link("", "Log in as somebody else", leave="1")
        # The provider sends people back to that origin: cookies under another name would be missed there.
        return warning + "".join(link(login.origin, label, provider=name) for name, label in login.labels())
