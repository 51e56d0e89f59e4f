"""An OpenID Connect provider on this machine, which lets everybody be whom the test says."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "lab", "the-secret-of-the-lab"


@dataclass
class Provider:
    """What it answers is set by the test; what it was asked stands in `seen` as (path, parameters).

    Attributes:
        user: claims of whoever logs in.
        claims: take the place of claims that would be right, as a wrong `nonce` or `iss`.
        answer: take the place of what the browser is sent back with, as a wrong `state`; None takes one out.
        signed_by: the key of the tokens; None: the one that is published.
    """

    url: str
    user: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, str | None] = field(default_factory=dict)
    signed_by: RSAKey | None = None
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "k", "use": "sig", "alg": "RS256"}))
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def be(self, email: str, **claims: Any) -> None:
        """Answer rightly again, for this person."""
        self.user = {"sub": email, "email": email, "email_verified": True, **claims}
        self.claims, self.answer, self.signed_by = {}, {}, None
        self.seen.clear()

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser is sent back to, with a code."""
        assert asked["client_id"] == CLIENT and asked["response_type"] == "code" and "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        answer = {"code": code, "state": asked["state"], **self.answer}
        return f"{asked['redirect_uri']}?{urlencode({k: v for k, v in answer.items() if v is not None})}"

    def token(self, asked: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """Tokens for a code, once; None for whoever is not the one that it was made for."""
        begun = self._codes.pop(asked.get("code", ""), None)
        proof = base64.urlsafe_b64encode(hashlib.sha256(asked.get("code_verifier", "").encode()).digest())
        known = f"Basic {base64.b64encode(f'{CLIENT}:{SECRET}'.encode()).decode()}"
        if (
            begun is None
            or authorization != known
            or asked["redirect_uri"] != begun["redirect_uri"]
            or proof.decode().rstrip("=") != begun["code_challenge"]
        ):
            return None
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": begun["nonce"], **self.user}
        header = {"alg": "RS256", "kid": "k"}
        signed = jwt.encode(header, {**claims, **self.claims}, self.signed_by or self.key)
        return {"access_token": "a", "token_type": "Bearer", "expires_in": 300, "id_token": signed}

    def documents(self) -> dict[str, Any]:
        """Path -> what is published there."""
        return {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                **{f"{what}_endpoint": f"{self.url}/{what}" for what in ("authorization", "token", "end_session")},
                "jwks_uri": f"{self.url}/jwks",
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
            },
            "/jwks": {"keys": [self.key.as_dict(private=False)]},
        }


@contextmanager
def running_provider() -> Iterator[Provider]:
    """A provider on a free port, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, asked = self._asked(urlsplit(self.path).query)
            if path == "/authorization":
                self._redirect(provider.authorize(asked))
            elif path == "/end_session":
                self._redirect(asked["post_logout_redirect_uri"])
            else:
                self._say(provider.documents().get(path))

        def do_POST(self) -> None:
            _, asked = self._asked(self.rfile.read(int(self.headers["content-length"])).decode())
            self._say(provider.token(asked, self.headers.get("authorization", "")))

        def _asked(self, text: str) -> tuple[str, dict[str, str]]:
            asked = {name: values[-1] for name, values in parse_qs(text).items()}
            provider.seen.append((urlsplit(self.path).path, asked))
            return provider.seen[-1]

        def _redirect(self, to: str) -> None:
            self.send_response(302)
            self.send_header("location", to)
            self.send_header("content-length", "0")
            self.end_headers()

        def _say(self, document: dict[str, Any] | None) -> None:
            body = json.dumps({"error": "invalid_grant"} if document is None else document).encode()
            self.send_response(400 if document is None else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
