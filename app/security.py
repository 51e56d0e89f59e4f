"""What stands before every request and websocket: known host names, known people, and headers on every answer."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access import Access
from app.gate import Gate

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


#: A name or address, and a port: nothing else that a library could take for a part of the address.
HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


class Guard:
    """ASGI middleware around everything that the port serves, Streamlit's own addresses included.

    Requests under a foreign host name are refused: a page of another site that has its name resolve to this machine
    (DNS rebinding) would otherwise read the lab. Websockets of other sites' pages are closed. Where the dashboard is
    not open, strangers meet `Gate`.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access
        self.gate = None if access.open else Gate(access)

    def _foreign(self, connection: HTTPConnection) -> bool:
        host = HOST.fullmatch(connection.headers.get("host", ""))
        return host is None or not self.access.knows_host(host["name"])

    @staticmethod
    def _of_another_site(connection: HTTPConnection) -> bool:
        """Whether a page of another origin opens this websocket. Programs that are no browsers name no origin."""
        origin = connection.headers.get("origin")
        return origin is not None and urlsplit(origin).netloc.lower() != connection.headers.get("host", "").lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            connection = HTTPConnection(scope)
            if (
                self._foreign(connection)
                or self._of_another_site(connection)
                or (self.gate is not None and not self.gate.admits(connection))
            ):
                await send({"type": "websocket.close", "code": 1008})
                return
            visit = None if self.gate is None else self.gate.visit(connection)
            if self.gate is None or visit is None:
                await self.app(scope, receive, send)
            else:
                await self.gate.visits.follow(visit, self.app, scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope, receive)
        if self._foreign(request):
            await PlainTextResponse("Unknown host name.", 421)(scope, receive, send_with_headers)
            return
        answer = None if self.gate is None else await self.gate.answer(request)
        await (self.app if answer is None else answer)(scope, receive, send_with_headers)
