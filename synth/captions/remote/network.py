"""How a server is reached: who signed its certificate, which proxy is on the way, and what a connection that failed means."""

import ipaddress
import os
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

from synth.captions.remote.verdict import AGAIN, CONNECTION, GONE, INPUT, MAYBE, UNREADABLE, Verdict
from synth.errors import InputError
from synth.redaction import redacted

FILES, FOLDERS = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), ("SSL_CERT_DIR",)  # variables, the first that is set counts
SIGNERS = ", ".join((*FILES, *FOLDERS))
_OUT_OF_DATE = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_OTHER_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
_UNKNOWN_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
FEW = 2  # tries at an address that never answered yet


class Oversized(Exception):
    """An answer was cut off, because it is larger than any answer here may be, or packed so that nobody knows."""


class Moved(Exception):
    """The server says that what is asked lies elsewhere, and to ask there without what was to be asked."""


def is_loopback(host: str | None) -> bool:
    """Whether a host of an address is this machine itself, to which no proxy has a way.

    >>> [is_loopback(h) for h in ("localhost", "127.0.0.2", "::1", "0.0.0.0", "gpu7")]
    [True, True, True, True, False]
    """
    name = (host or "").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def signers() -> ssl.SSLContext | bool:
    """Who may sign certificates: what the environment names, in the place of the system's own (True). InputError names a variable
    whose file is none."""
    file, folder = (next(((n, os.environ[n]) for n in names if os.environ.get(n)), ("", "")) for names in (FILES, FOLDERS))
    if file[1] and os.path.isdir(file[1]):  # as REQUESTS_CA_BUNDLE may be
        file, folder = ("", ""), file
    for name, path in (file, folder):
        if path and not (os.path.isfile(path) or os.path.isdir(path)):
            raise InputError(f"{name}={path}: is not here; it names the certificates of who signs servers' certificates")
    if not file[1] and not folder[1]:
        return True
    try:
        return ssl.create_default_context(cafile=file[1] or None, capath=folder[1] or None)
    except (ssl.SSLError, OSError) as e:
        raise InputError(f"{file[0]}={file[1]}: holds no certificates that can be read ({e}); it is a file in PEM form") from e


def proxy_of(url: str) -> str:
    """The variable that names a proxy on the way to an address; "" where there is none."""
    parts = urlsplit(url)
    if is_loopback(parts.hostname) or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    names = (f"{parts.scheme}_proxy", "all_proxy")
    return next((n for name in names for n in (name.upper(), name) if os.environ.get(n)), "")


def trouble(error: BaseException, url: str, fresh: bool) -> Verdict:
    """The verdict on a request that got no answer. fresh: this address never answered yet, so that it may well be a wrong one.

    url: "" of a server of our own, which is started again when it dies, but so few times that the request that kills it must not try often.
    """
    chain = list(_chain(error))
    for e in chain:
        if isinstance(e, Oversized):
            return Verdict(MAYBE, str(e), kind=UNREADABLE)
        if isinstance(e, Moved):
            return Verdict(INPUT, str(e))
        if isinstance(e, ssl.SSLCertVerificationError):
            return _certificate(e, url)
        if isinstance(e, ssl.SSLError) and not isinstance(e, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            fix = "it speaks no TLS: is it http:// and not https://?" if (e.reason or "") in _NO_TLS else "its TLS does not fit ours"
            return Verdict(INPUT, f"{fix} ({redacted(e)})")
    names = [type(e).__name__ for e in chain]
    by = f" by the proxy of {proxy}" if (proxy := proxy_of(url)) else ""
    if "ProxyError" in names:
        return Verdict(INPUT, f"the proxy of {proxy or 'the environment'} lets nobody through ({redacted(chain[0])}); see NO_PROXY")
    if {"InvalidURL", "UnsupportedProtocol", "TooManyRedirects"} & set(names) or any(isinstance(e, UnicodeError) for e in chain):
        return Verdict(INPUT, f"it is no address of a server ({redacted(chain[-1])})")
    why = f"no connection{by}: {redacted(chain[-1])}"
    for e in chain:
        if isinstance(e, socket.gaierror) or _looked_up(e):
            if fresh and _unknown(e):
                return Verdict(INPUT, f"no machine of that name is known here{by} ({redacted(e)}); check the name")
            return Verdict(AGAIN, f"its name cannot be looked up now{by} ({redacted(e)})", tries=FEW if fresh else None)
    if "ConnectError" in names or any(isinstance(e, ConnectionRefusedError) for e in chain):
        refused = any("refused" in str(e).lower() for e in chain)
        said = f"nothing listens there{by} ({redacted(chain[-1])})" if refused else why
        return Verdict(AGAIN, said, tries=FEW if fresh else None)
    if fresh and any("illegal" in str(e) for e in chain):  # of h11: a status line that is none
        return Verdict(INPUT, f"what answers there speaks no HTTP ({redacted(chain[-1])}): is it https:// and not http://?")
    return Verdict(MAYBE, why, tries=FEW if fresh else None if url else 1, kind=CONNECTION)


def _certificate(e: ssl.SSLCertVerificationError, url: str) -> Verdict:
    """What is wrong with a certificate: no try mends it."""
    host = urlsplit(url).hostname
    why = f"its certificate is not taken: {e.verify_message or redacted(e)}"
    if e.verify_code in _OUT_OF_DATE:
        return Verdict(GONE, f"{why} (or the clock of this machine is wrong)")
    if e.verify_code in _OTHER_NAME or "mismatch" in str(e).lower():
        return Verdict(INPUT, f"{why}: it is for another name than {host}; give the address by the name that it has")
    return Verdict(INPUT, f"{why}; SSL_CERT_FILE=/path/ca.pem names who signed it (read: {SIGNERS})")


def _looked_up(e: BaseException) -> bool:
    """Whether an error is one of name resolution whose class got lost on the way."""
    return "Name or service not known" in str(e) or "name resolution" in str(e)


def _unknown(e: BaseException) -> bool:
    return getattr(e, "errno", None) in _UNKNOWN_NAME or "Name or service not known" in str(e)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it came from, the first cause last."""
    seen: set[int] = set()
    e: BaseException | None = error
    while e is not None and id(e) not in seen:
        seen.add(id(e))
        yield e
        e = e.__cause__ or e.__context__  # httpx tells what TLS said as context alone
