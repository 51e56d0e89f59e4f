"""Who may see the dashboard: this machine only, whoever holds a token, or whoever a provider of identities lets in."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from app.identity import Login
from rsfm.errors import RsfmError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN_VARIABLE = "RSFM_TOKEN"
#: Shorter tokens could be guessed.
MIN_TOKEN = 16


@dataclass(frozen=True)
class Access:
    """What a request has to show.

    Attributes:
        hosts: names under which requests may arrive, in lower case.
        any_address: whether they may arrive under every IP address too: no other site can be called by one.
        token: opens everything; None: no token does.
        login: identities from an OpenID Connect provider, instead of the token; scripts may still send the token.
    """

    hosts: frozenset[str] = frozenset(LOOPBACK)
    any_address: bool = False
    token: str | None = None
    login: Login | None = None

    @property
    def open(self) -> bool:
        return self.token is None and self.login is None

    def knows_host(self, name: str) -> bool:
        return name.strip("[]").lower() in self.hosts or (self.any_address and as_address(name) is not None)


def as_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a text is, or None."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    address = as_address(host)
    return host in LOOPBACK or (address is not None and address.is_loopback)


def checked_token(text: str, source: str) -> str:
    """A token that is long enough and can stand in a header.

    Raises:
        RsfmError: it is not.
    """
    token = text.strip()
    if len(token) < MIN_TOKEN or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise RsfmError(
            f"The token in {source} must have at least {MIN_TOKEN} characters, without blanks or accents. "
            "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return token


def given_token(file: Path | None) -> str | None:
    """The token of a file or of `RSFM_TOKEN`, which is taken out of the environment: jobs have no use for it.

    Raises:
        RsfmError: both are given, the file cannot be read, or the token is too weak.
    """
    variable = os.environ.pop(TOKEN_VARIABLE, None)
    if file is None:
        return None if variable is None else checked_token(variable, TOKEN_VARIABLE)
    if variable is not None:
        raise RsfmError(f"There is a token in {TOKEN_VARIABLE} and one in {file}: give one of them.")
    try:
        return checked_token(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise RsfmError(f"The token file {file} cannot be read: {error}") from error


def checked_hosts(names: Sequence[str]) -> frozenset[str]:
    """Host names in lower case.

    Raises:
        RsfmError: one is more than a name.
    """
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", name) and as_address(name) is None:
            raise RsfmError(f"--allow-host takes a name such as lab.example.org, without http:// and port: {name!r}.")
    return frozenset(name.strip("[]").lower() for name in names)


def known_hosts(host: str, allow_hosts: Sequence[str] = ()) -> frozenset[str]:
    """Names under which requests to a server bound to `host` may arrive.

    Raises:
        RsfmError: one of `allow_hosts` is more than a name.
    """
    own = {host.lower()}
    if not is_loopback(host):
        machine = socket.gethostname().lower()
        own |= {machine, machine.partition(".")[0]}
    return frozenset({*LOOPBACK, *own} - {"", "0.0.0.0", "::"}) | checked_hosts(allow_hosts)


def access_for(
    host: str, *, token: str | None, login: Login | None, allow_hosts: Sequence[str] = ()
) -> tuple[Access, bool]:
    """What a server bound to `host` asks for: nothing on a loopback address; else a token is made where there is none.

    Args:
        allow_hosts: more names under which people come, as through a proxy. They come from elsewhere: nothing is open.

    Returns:
        The access, and whether its token was made here.
    """
    local = is_loopback(host)
    made = token is None and login is None and not (local and not allow_hosts)
    if made:
        token = secrets.token_urlsafe(32)
    hosts = known_hosts(host, allow_hosts)
    if login is not None and (reached := urlsplit(login.origin).hostname):
        hosts |= {reached}  # where the provider sends people back to
    return Access(hosts, any_address=not local, token=token, login=login), made
