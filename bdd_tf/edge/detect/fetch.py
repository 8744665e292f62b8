"""Fetch images over http and https: with limits, and never from an address inside of a network."""

from __future__ import annotations

import http.client
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from bdd_tf import __version__
from bdd_tf.edge.images.errors import ImageError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK = 64 * 1024
# Ranges that `ipaddress` calls global in some version of Python, or that hide another address.
_REFUSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "100.64.0.0/10",  # carrier-grade NAT, and a metadata service
        "168.63.129.16/32",  # the platform service inside of Azure
        "::/96",  # IPv4-compatible addresses
        "64:ff9b:1::/48",  # local NAT64
        "2001::/23",  # Teredo and other assignments
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Return whether an address is in the public internet.

    Args:
        address: An IPv4 or IPv6 address, possibly with a zone (``fe80::1%eth0``). IPv4 addresses inside of IPv6 ones (mapped,
            NAT64) are judged themselves.

    Returns:
        False for private, loopback, link-local, multicast, reserved and unspecified addresses.
    """
    found: Address = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            found = inner
    if found.is_private or found.is_loopback or found.is_link_local or found.is_multicast:
        return False
    if found.is_reserved or found.is_unspecified or not found.is_global:
        return False
    return not any(found in network for network in _REFUSED if network.version == found.version)


class Network:
    """The two uses of the network; tests replace them, so that names lead to a server of their own.

    The rule for addresses is applied to what `resolve` returns, and `connect` gets only addresses that passed it.
    """

    def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host, at least one.

        Raises:
            OSError: If there are none.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def connect(self, address: str, port: int, seconds: float) -> socket.socket:
        """Connect to an address.

        Raises:
            OSError: If nothing answers within the given time.
        """
        return socket.create_connection((address, port), timeout=seconds)

    def context(self) -> ssl.SSLContext:
        """Return the settings of TLS: certificates are verified."""
        return ssl.create_default_context()


@dataclass(frozen=True)
class Fetcher:
    """Fetches files.

    Attributes:
        limit: Largest file, in bytes.
        seconds: Time for a file, with all redirects.
        redirects: Number of redirects that are followed.
        network: How names are resolved and connections made.
    """

    limit: int = 64 * 1024**2
    seconds: float = 30.0
    redirects: int = 5
    network: Network = field(default_factory=Network)

    def fetch(self, url: str, target: Path) -> None:
        """Fetch one file.

        Proxies of the environment are not used: with a proxy, the address could not be checked. Cookies and passwords are
        neither sent nor kept.

        Args:
            url: A URL of the scheme http or https, without user name and password.
            target: The file to write.

        Raises:
            ImageError: If the URL is refused or cannot be fetched within the limits; the text does not name the first URL.
        """
        deadline = time.monotonic() + self.seconds
        source = checked(url)
        for _ in range(self.redirects + 1):
            try:
                following = self._step(source, target, deadline)
            except ImageError:
                raise
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise ImageError(f"it cannot be fetched: {self._reason(error, deadline)}") from None
            if following is None:
                return
            before, source = source, checked(_joined(source, following))
            if (before.scheme, source.scheme) == ("https", "http"):
                raise ImageError("it is redirected from https to http, which is refused")
        raise ImageError(f"it is redirected more than {self.redirects} times, which is the limit")

    def _step(self, source: SplitResult, target: Path, deadline: float) -> str | None:
        """Send one request; return the location of a redirect, or None after the file was written."""
        host, port = str(source.hostname), source.port or _PORTS[source.scheme]
        connection = http.client.HTTPConnection(host, port)
        with closing(connection):
            connection.default_port = _PORTS[source.scheme]  # or the header Host names the port
            connection.sock = sock = self._connect(host, port, deadline)
            if source.scheme == "https":
                context = self.network.context()
                sock = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
                connection.sock = sock
            with self._until(deadline, sock):
                if isinstance(sock, ssl.SSLSocket):
                    sock.do_handshake()
                path = quote(source.path or "/", safe="%/:=&~+!$,;'@()*") + (
                    "?" + quote(source.query, safe="%/:=&?~+!$,;'@()*[]") if source.query else ""
                )
                headers = {"User-Agent": f"bdd_tf/{__version__}", "Accept-Encoding": "identity"}
                connection.request("GET", path, headers=headers | {"Connection": "close"})
                with connection.getresponse() as response:
                    return self._answer(response, target, deadline)

    def _connect(self, host: str, port: int, deadline: float) -> socket.socket:
        """Connect to one of the addresses of a host, all of which were checked: no name is resolved again."""
        addresses = self._resolve(host, port, deadline)
        if inner := next((address for address in addresses if not is_public(address)), None):
            about = "" if inner == host else f", the address of {host},"
            raise ImageError(
                f"{inner}{about} is not public; only addresses of the public internet are fetched from"
            )
        problem: OSError = OSError("there is no address")
        for address in addresses:
            try:
                return self.network.connect(address, port, _left(deadline))
            except OSError as error:
                problem = error
        raise problem

    def _resolve(self, host: str, port: int, deadline: float) -> list[str]:
        """Resolve a name in a thread, because the system's resolver has no time limit."""
        answer: queue.Queue[list[str] | OSError | ValueError] = queue.Queue()

        def run() -> None:
            try:
                answer.put(self.network.resolve(host, port))
            except (OSError, ValueError) as error:
                answer.put(error)

        threading.Thread(target=run, name="bdd-resolve", daemon=True).start()
        try:
            found = answer.get(timeout=_left(deadline))
        except queue.Empty:
            raise TimeoutError from None
        if not isinstance(found, list):
            raise ImageError(f"the host {host} is not known")
        return found

    def _answer(self, response: http.client.HTTPResponse, target: Path, deadline: float) -> str | None:
        if response.status in _REDIRECTS:
            location = response.getheader("Location")
            if not location:
                raise ImageError("it is redirected without a location")
            return location
        if response.status != HTTPStatus.OK:
            known = response.status in HTTPStatus.__members__.values()
            phrase = f" ({HTTPStatus(response.status).phrase})" if known else ""
            raise ImageError(f"the server answers {response.status}{phrase}")
        if response.getheader("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise ImageError("the server sends it compressed, though that was not asked for")
        expected, count = response.length, 0
        too_large = ImageError(f"it has more than {self.limit:,} bytes, which is the limit")
        if expected is not None and expected > self.limit:
            raise too_large
        with target.open("wb") as file:
            while chunk := response.read(_CHUNK):
                count += len(chunk)
                if count > self.limit:
                    raise too_large
                if time.monotonic() > deadline:
                    raise TimeoutError
                file.write(chunk)
        if time.monotonic() > deadline:
            raise TimeoutError
        if expected is not None and count != expected:
            raise ImageError(f"the connection ended after {count:,} of {expected:,} bytes")
        return None

    def _reason(self, error: Exception, deadline: float) -> str:
        if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
            return f"it took more than {self.seconds:g} s, which is the limit"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the server's certificate is not valid: {error.verify_message}"
        if isinstance(error, http.client.HTTPException | ValueError):
            return "the server's answer is not valid HTTP"
        return str(getattr(error, "strerror", None) or error or type(error).__name__)

    @contextmanager
    def _until(self, deadline: float, sock: socket.socket) -> Iterator[None]:
        """End a connection at the deadline. The time limit of a socket starts anew with each byte."""

        def end() -> None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(_left(deadline), end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def checked(url: str) -> SplitResult:
    """Split a URL, and encode the name of its host.

    Raises:
        ImageError: If it is no URL of http or https, or holds a user name or password.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ImageError("it is not a valid URL") from None
    if parts.scheme not in _PORTS:
        raise ImageError(f"its scheme is {parts.scheme or 'missing'}; http and https are possible")
    if parts.username is not None or parts.password is not None:
        raise ImageError("it holds a user name or a password, which are not sent")
    if not host or not all(c.isprintable() for c in url) or "\\" in url:
        raise ImageError("it is not a valid URL")
    if ":" not in host:
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise ImageError("it is not a valid URL") from None
    elif "%" in host:
        raise ImageError("it is not a valid URL")
    else:
        host = f"[{host}]"
    return parts._replace(netloc=host if port is None else f"{host}:{port}", fragment="")


def _joined(source: SplitResult, location: str) -> str:
    try:
        return urljoin(source.geturl(), location)
    except ValueError:
        raise ImageError("it is redirected to a URL that is not valid") from None


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
