"""Identities from an OpenID Connect provider, as Streamlit's `[auth]` secrets configure it.

Streamlit runs the exchange with the provider and leaves a signed cookie. Its pages read that cookie when their
websocket opens; here the same cookie, with the same secret, is asked of every request.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from rsfm.errors import RsfmError

COOKIE = "_streamlit_user"
#: Where Streamlit exchanges words with the provider: open to strangers, or nobody could come in.
LOGOUT_PATH = "/auth/logout"
OPEN_PATHS = ("/auth/login", LOGOUT_PATH, "/oauth2callback")
MIN_SECRET = 32


@dataclass(frozen=True)
class Login:
    """The configured login.

    Attributes:
        origin: scheme, host and port under which people reach the dashboard, from `redirect_uri`.
        providers: names of `[auth.NAME]`, or "default".
        users: e-mail addresses and `@domain`s that may come in; empty: everybody whom the provider knows.
    """

    origin: str
    providers: tuple[str, ...]
    users: tuple[str, ...] = ()

    def _content(self, cookies: Mapping[str, str]) -> bytes:
        """What stands in the identity cookie; nothing where it is missing, forged or expired."""
        from streamlit.auth_util import get_cookie_with_chunks
        from streamlit.web.server.server_util import get_cookie_secret
        from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value

        def read(name: str) -> bytes | None:
            value = cookies.get(name)
            return decode_signed_value(get_cookie_secret(), name, value.encode("latin-1", "replace")) if value else None

        try:
            return get_cookie_with_chunks(read, COOKIE) or b""
        except ValueError:
            return b""

    def visit(self, cookies: Mapping[str, str]) -> str:
        """A name for this one login of this one person: its cookie holds when it was issued, and a number used once."""
        return hashlib.sha256(self._content(cookies)).hexdigest()

    def user(self, cookies: Mapping[str, str]) -> dict[str, Any] | None:
        """Whom the identity cookie names, or None where it is missing, forged, expired or of another address."""
        try:
            found = json.loads(self._content(cookies) or b"null")
        except ValueError:
            return None
        if not isinstance(found, dict) or found.get("is_logged_in") is not True or found.get("origin") != self.origin:
            return None
        return found

    def invited(self, user: Mapping[str, Any]) -> bool:
        """Whether this person is among `users`. An address that the provider does not call verified is nobody's."""
        if not self.users:
            return True
        address = str(user.get("email") or "").lower()
        if "@" not in address or user.get("email_verified") is not True:
            return False
        return address in self.users or f"@{address.rpartition('@')[2]}" in self.users

    def labels(self) -> list[tuple[str, str]]:
        """(name, label) of each provider."""
        return [(p, "Log in" if p == "default" else f"Log in with {p.capitalize()}") for p in self.providers]

    @staticmethod
    def start(provider: str) -> str:
        """The address where the exchange with a provider begins; it is good for two minutes."""
        from streamlit.auth_util import encode_provider_token

        return f"/auth/login?{urlencode({'provider': encode_provider_token(provider)})}"


def configured_login(users: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> Login | None:
    """The login that Streamlit's secrets configure; None where they do not.

    Args:
        users: see `Login`.
        options: Streamlit's, which the dashboard will be served with.

    Raises:
        RsfmError: the secrets cannot be read or are incomplete, or there are users without a login.
    """
    from streamlit import config
    from streamlit.auth_util import (
        get_origin_from_redirect_uri,
        get_secrets_auth_section,
        is_authlib_installed,
        validate_auth_credentials,
    )
    from streamlit.errors import StreamlitAuthError
    from streamlit.runtime.secrets import secrets_singleton

    if options is not None:
        config.get_config_options(force_reparse=True, options_from_flags=dict(options))
    invited = tuple(u.strip().lower() for u in users)
    files = [Path(p) for p in config.get_option("secrets.files") if Path(p).exists()]
    if files and not secrets_singleton.load_if_toml_exists():
        raise RsfmError(f"The secrets in {files[0]} cannot be read: no login would be asked for.")
    section = get_secrets_auth_section().to_dict() if files else {}
    if not section:
        if invited:
            raise RsfmError("--allow-user needs a login: configure [auth] in .streamlit/secrets.toml (see README).")
        return None
    for user in invited:
        if "@" not in user:
            raise RsfmError(f"--allow-user takes an e-mail address or @domain, not {user!r}.")
    providers = tuple(name for name, value in section.items() if isinstance(value, dict) and "client_id" in value)
    try:
        for provider in providers or ("default",):
            validate_auth_credentials(provider)
        origin = get_origin_from_redirect_uri()
    except StreamlitAuthError as error:
        raise RsfmError(f"[auth] in the secrets: {' '.join(str(error).split())}") from error
    if not origin or not urlsplit(origin).netloc:
        raise RsfmError("[auth] in the secrets: redirect_uri must be the dashboard's address and /oauth2callback.")
    if len(str(section["cookie_secret"])) < MIN_SECRET:
        raise RsfmError(f"[auth] in the secrets: cookie_secret must have at least {MIN_SECRET} random characters.")
    if not is_authlib_installed():
        raise RsfmError("[auth] in the secrets needs Authlib: pip install 'rsfm-lab[auth]'.")
    return Login(origin, providers or ("default",), invited)
