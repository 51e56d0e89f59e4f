"""Websockets that a login has opened: they end with it, in every tab of that browser.

A page lives on its websocket. Streamlit looks at the identity when the socket opens and never again, so that a tab that
was left open would go on working, and could start jobs, after its owner has logged out elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: So many logins that are over are remembered; their cookies would open the door again.
MOST_OVER = 100_000
#: The tab that logs out is on its way to the provider, and must not be called back: it is given this long to leave.
FAREWELL_S = 2.0


def _go_to_the_login() -> bytes:
    """Streamlit's message that sends a page elsewhere: to its own address, where the login page now stands."""
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

    message = ForwardMsg()
    message.auth_redirect.url = ""
    message.auth_redirect.SetInParent()
    return message.SerializeToString()


class Visits:
    """The websockets of each login, and the logins that are over."""

    def __init__(self, farewell_s: float = FAREWELL_S) -> None:
        self._farewell_s = farewell_s
        self._open: dict[str, set[Callable[[], object]]] = {}
        self._over: OrderedDict[str, None] = OrderedDict()

    def is_over(self, login: str) -> bool:
        return login in self._over

    def end(self, login: str) -> None:
        """Somebody has logged out: nothing more is taken from that login's websockets, nor sent to them."""
        self._over[login] = None
        if len(self._over) > MOST_OVER:
            self._over.popitem(last=False)
        for leave in self._open.get(login, set()).copy():
            leave()

    async def follow(self, login: str, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one websocket until it closes or its login is over."""
        accepted = False

        async def sending(message: Message) -> None:
            nonlocal accepted
            accepted = accepted or message["type"] == "websocket.accept"
            await send(message)

        serving = asyncio.ensure_future(app(scope, receive, sending))
        others = self._open.setdefault(login, set())
        others.add(serving.cancel)
        try:
            await serving
        except asyncio.CancelledError:
            if not self.is_over(login):  # the server stops
                serving.cancel()
                raise
            await self._part(receive, send, accepted=accepted)
        finally:
            others.discard(serving.cancel)
            if not others:
                self._open.pop(login, None)

    async def _part(self, receive: Receive, send: Send, *, accepted: bool) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._farewell_s):
                while (await receive())["type"] != "websocket.disconnect":
                    pass  # what a page asks for now is not done
            return
        if accepted:
            await send({"type": "websocket.send", "bytes": _go_to_the_login()})
        await send({"type": "websocket.close", "code": 1008})
