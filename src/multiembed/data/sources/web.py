"""Files of the web, by redirects that lead neither out of it nor into a private network."""

import base64
import ipaddress
import socket
from collections.abc import Callable
from http.client import HTTPConnection, HTTPMessage, HTTPResponse, HTTPSConnection
from typing import Any
from urllib import request
from urllib.error import HTTPError
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from typing_extensions import override

SCHEMES = ("http", "https")


def open_web(url: str, *, timeout: float) -> HTTPResponse:
    """Open a file of the web. A user and password that stand in the URL go to its host alone.

    Args:
        url: Of `http` or `https`. If its host is a private one, redirects may lead to such.
        timeout: Seconds without a byte.

    Raises:
        OSError: If there is none, or a redirect leads to another scheme or a private address.
        HTTPException: If what answers does not speak HTTP.
        ValueError: If the URL is none.
    """
    peers = _Peers()
    opener = request.OpenerDirector()
    for handler in (
        *(request.ProxyHandler(), _Web(peers), request.HTTPDefaultErrorHandler(), _Redirects()),
        *(request.HTTPErrorProcessor(), request.UnknownHandler()),
    ):
        opener.add_handler(handler)
    try:
        return opener.open(_request(url), timeout=timeout)  # pyright: ignore[reportReturnType]
    except HTTPError as error:
        with error:
            raise OSError(error.reason) from None


def is_private(address: str) -> bool:
    """Say whether an IP address belongs to this machine or to a network of its own."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return not (mapped or found).is_global


def _request(url: str) -> request.Request:
    parts = urlsplit(url)
    user, mark, host = parts.netloc.rpartition("@")
    asked = request.Request(urlunsplit(parts._replace(netloc=host)))
    if mark:
        word = base64.b64encode(unquote(user).encode()).decode()
        asked.add_unredirected_header("Authorization", f"Basic {word}")
    return asked


class _Peers:
    """Who is spoken with: after a public address, none that is private."""

    def __init__(self) -> None:
        self._public = False

    def check(self, connection: socket.socket) -> None:
        """Refuse a private address behind a public one, before anything is asked of it."""
        address = str(connection.getpeername()[0])
        private = is_private(address)
        if private and self._public:
            connection.close()
            raise OSError(f"a redirect to the private address {address}")
        self._public = not private


class _Web(request.HTTPSHandler):
    """Opens both schemes."""

    def __init__(self, peers: _Peers) -> None:
        super().__init__()
        self._peers = peers

    def http_open(self, req: request.Request) -> HTTPResponse:
        return self.do_open(self._watched(req, HTTPConnection), req)

    http_request = request.AbstractHTTPHandler.do_request_

    @override
    def https_open(self, req: request.Request) -> HTTPResponse:
        return self.do_open(self._watched(req, HTTPSConnection), req)

    def _watched(self, req: request.Request, kind: type[HTTPConnection]) -> Callable:
        if req.has_proxy() or getattr(req, "_tunnel_host", None):
            return kind  # the peer is the proxy, which knows what it may reach
        peers = self._peers

        class Watched(kind):
            @override
            def connect(self) -> None:
                super().connect()
                peers.check(self.sock)

        return Watched


class _Redirects(request.HTTPRedirectHandler):
    """Follows what stays in the web."""

    @override
    def redirect_request(
        self,
        req: request.Request,
        fp: Any,
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> request.Request | None:
        followed = super().redirect_request(req, fp, code, msg, headers, newurl)
        scheme = urlsplit(newurl).scheme
        if scheme not in SCHEMES:
            fp.close()
            raise OSError(f"a redirect to {scheme}://")
        return followed and _request(urljoin(req.full_url, newurl))
