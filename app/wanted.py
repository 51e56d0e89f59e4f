"""The address that somebody asked for, kept while they log in somewhere else: a place on this server, nothing more."""

from __future__ import annotations

import hashlib
import posixpath
import secrets
from typing import NamedTuple
from urllib.parse import quote, unquote

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import HTTPConnection
from starlette.responses import Response

#: Where people are sent who asked for no page.
START = "/now"
#: Long enough for a password and a second factor.
AGE_S = 900
#: Browsers drop cookies of more than 4096 bytes; name and attributes take their share.
MOST_BYTES = 3_800


def own_address(path: str, query: str = "") -> str:
    """A place on this server to be sent to: never another host's, whatever the path looks like."""
    place = quote("/" + path.lstrip("/\\"), safe="/~:+,=@")
    return f"{place}?{query}" if query else place


def asked_address(text: str, not_pages: tuple[str, ...] = ()) -> str:
    """`own_address` of what a form or link holds.

    Args:
        not_pages: paths that do something instead of showing something; `START` takes their place.
    """
    path, _, query = text.partition("?")
    place = own_address(unquote(path), query)
    # As browsers read it: without dots, and a slash more at its end leads to the same.
    return START if posixpath.normpath(unquote(place.partition("?")[0])) in not_pages else place


def own_cookie(connection: HTTPConnection, name: str) -> str:
    """A cookie's name on this port: browsers do not keep those of two ports apart, and one machine may serve two."""
    server = connection.scope.get("server")
    return f"rsfm_{name}_{server[1] if server else 0}"


def by_https(connection: HTTPConnection) -> bool:
    """Whether the browser came by https, to us or to a proxy before us."""
    return "https" in (connection.scope["scheme"], connection.headers.get("x-forwarded-proto", "").lower())


class Wanted(NamedTuple):
    """What was kept: the address, and whether it was for a login (or for the logout before another one)."""

    place: str
    login: bool


class Keeper:
    """Keeps one address per browser in a signed cookie. It ends with the server, whose start makes the key."""

    def __init__(self) -> None:
        self._serializer = URLSafeTimedSerializer(
            secrets.token_bytes(32), salt="rsfm.wanted", signer_kwargs={"digest_method": hashlib.sha256}
        )

    def keep(self, connection: HTTPConnection, answer: Response, wanted: Wanted) -> None:
        """Put it into the answer's cookie; what is too long for one replaces an older one by `START`."""
        value = self._sealed(wanted) if self.fits(wanted.place) else self._sealed(wanted._replace(place=START))
        # Lax: the provider's site sends the browser back.
        answer.set_cookie(
            own_cookie(connection, "wanted"), value, max_age=AGE_S, path="/", httponly=True, samesite="lax",
            secure=by_https(connection),
        )  # fmt: skip

    def kept(self, connection: HTTPConnection) -> Wanted | None:
        """What this browser keeps; None where that is nothing, too old, or not of our making."""
        try:
            place, login = self._serializer.loads(connection.cookies.get(own_cookie(connection, "wanted"), ""), AGE_S)
        except BadData:
            return None
        return Wanted(place, login)

    @staticmethod
    def forget(connection: HTTPConnection, answer: Response) -> None:
        """Take the cookie back."""
        answer.delete_cookie(own_cookie(connection, "wanted"), path="/", httponly=True, samesite="lax")

    def fits(self, place: str) -> bool:
        """Whether an address is short enough to be kept."""
        return len(self._sealed(Wanted(place, True))) <= MOST_BYTES

    def _sealed(self, wanted: Wanted) -> str:
        text = self._serializer.dumps(list(wanted))
        return text if isinstance(text, str) else text.decode()
