"""Addresses, names, certificates and proxies: what is wrong with them is told at once, as what it is."""

import socket
import ssl
import threading
from pathlib import Path

import pytest

from synth.captions.remote.network import SIGNERS, is_loopback, trouble
from synth.captions.remote.verdict import AGAIN, GONE, INPUT
from synth.errors import InputError, ServiceGone
from tests.captions.remote.conftest import expected, requests
from tests.captions.remote.fake import Fake, status

PEM = Path(__file__).with_name("localhost.pem")
VARIABLES = (*SIGNERS.split(", "), *(f"{a}_{b}".upper() for a in ("http", "https", "all", "no") for b in ("proxy",)))


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def https():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    with Fake(tls=context) as server:
        yield server.url.replace("127.0.0.1", "localhost")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"])
def test_who_signs_certificates_is_read_from_the_environment_for_loopback_too(engine, https, monkeypatch, tmp_path, variable):
    named = tmp_path / "signers"
    if variable == "SSL_CERT_DIR":  # by the hash of its subject, as c_rehash names it
        named.mkdir()
        (named / "ce275665.0").write_bytes(PEM.read_bytes())
    else:
        named.write_bytes(PEM.read_bytes())
    monkeypatch.setenv(variable, str(named))
    assert [r.text for r in engine(https).generate(requests(3))] == expected(3)


def test_what_is_wrong_with_a_certificate_is_told_at_once(engine, https, monkeypatch):
    first = engine(https)
    with pytest.raises(InputError, match=r"its certificate is not taken: self-signed certificate; SSL_CERT_FILE=/path/ca\.pem names who"):
        first.generate(requests(3))
    monkeypatch.setenv("SSL_CERT_FILE", str(PEM))
    with pytest.raises(InputError, match=r"it is for another name than 127\.0\.0\.1; give the address by the name that it has"):
        (second := engine(https.replace("localhost", "127.0.0.1"))).generate(requests(3))
    assert first.usage()["retries"] == second.usage()["retries"] == 0
    old = ssl.SSLCertVerificationError("certificate has expired")
    old.verify_code, old.verify_message = 10, "certificate has expired"
    verdict = trouble(old, "https://x/v1", fresh=True)
    assert verdict.what == GONE and "certificate has expired (or the clock of this machine is wrong)" in verdict.why


@pytest.mark.parametrize(("holds", "said"), [(None, "is not here"), ("no PEM", "holds no certificates that can be read")])
def test_a_variable_that_names_no_certificates_is_told_by_its_name(engine, https, monkeypatch, tmp_path, holds, said):
    file = tmp_path / "ca.pem"
    if holds is not None:
        file.write_text(holds)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    with pytest.raises(InputError, match=rf"REQUESTS_CA_BUNDLE={file}: {said}"):
        engine(https).generate(requests(1))


def test_a_scheme_that_is_not_the_servers_is_told_as_that(engine, https):
    with Fake() as server, pytest.raises(InputError, match=r"is it http:// and not https://"):
        engine(server.url.replace("http:", "https:")).generate(requests(2))
    with pytest.raises((InputError, ServiceGone), match=r"is it https:// and not http://|no connection"):
        engine(https.replace("https:", "http:"), retries=1).generate(requests(2))


@pytest.fixture
def names(monkeypatch):
    """socket.getaddrinfo says this of every name but loopback's."""

    def fail(code, text):
        real = socket.getaddrinfo

        def looked_up(host, *args, **more):
            if is_loopback(host if isinstance(host, str) else host.decode()):
                return real(host, *args, **more)
            raise socket.gaierror(code, text)

        monkeypatch.setattr(socket, "getaddrinfo", looked_up)

    return fail


def test_a_name_that_nobody_knows_is_bad_input_and_one_that_is_not_found_for_now_is_not(engine, names):
    names(socket.EAI_NONAME, "Name or service not known")
    with pytest.raises(InputError, match=r"no machine of that name is known here .*check the name"):
        engine("http://gpu7:8000/v1").generate(requests(3))
    names(socket.EAI_AGAIN, "Temporary failure in name resolution")
    with pytest.raises(ServiceGone, match=r"its name cannot be looked up now .*\(tried 2 times\)"):
        engine("http://gpu7:8000/v1").generate(requests(3))


def test_a_server_that_was_there_is_waited_for_and_one_that_never_was_is_not():
    refused = ConnectionRefusedError(111, "Connection refused")
    assert (trouble(refused, "http://x/v1", fresh=True).what, trouble(refused, "http://x/v1", fresh=True).tries) == (AGAIN, 2)
    assert (trouble(refused, "http://x/v1", fresh=False).what, trouble(refused, "http://x/v1", fresh=False).tries) == (AGAIN, None)
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert trouble(unknown, "http://x/v1", fresh=True).what == INPUT and trouble(unknown, "http://x/v1", fresh=False).what == AGAIN


def test_what_speaks_no_http_is_told_as_that(engine):
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def greet():
            while True:
                try:
                    other, _ = odd.accept()
                except OSError:
                    return
                with other:
                    other.sendall(b"SSH-2.0-OpenSSH_9.2\r\nInvalid SSH identification string.\r\n\r\n")
                    other.recv(1 << 16)

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(InputError, match="what answers there speaks no HTTP"):
            engine(f"http://127.0.0.1:{odd.getsockname()[1]}/v1").generate(requests(2))
        odd.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("code", [301, 302, 303])
def test_a_redirect_that_forgets_the_question_names_the_address_to_take(engine, code):
    with Fake() as there, Fake(default=status(code, {"Location": there.url + "/completions"})) as server:
        with pytest.raises(InputError, match=rf"HTTP {code}: what is asked lies at '{there.url}/completions': captioner\.base_url"):
            engine(server).generate(requests(2))
        assert not there.seen


@pytest.mark.parametrize("code", [307, 308])
def test_a_redirect_that_keeps_the_question_is_followed(engine, code):
    with Fake() as there, Fake(default=status(code, {"Location": there.url + "/completions"})) as server:
        assert [r.text for r in engine(server).generate(requests(2))] == expected(2)
        assert len(there.seen) == 2 and all(s["auth"] is None for s in there.seen)  # another address gets no key


def test_a_redirect_to_itself_ends(engine):
    with Fake(default=status(307, {"Location": "/v1/completions"})) as server, pytest.raises(InputError, match="no address of a server"):
        engine(server).generate(requests(1))


def test_proxies_are_named_where_they_fail_and_left_out_on_the_way_to_this_machine(engine, monkeypatch):
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for n, host in enumerate(("127.0.0.1", "127.0.0.5", "localhost", "[::1]")):
        with Fake(host="::1" if "::" in host else "0.0.0.0") as server:
            assert engine(server.url.replace("0.0.0.0", host)).generate(requests(9)[n : n + 1])[0].text == expected(9)[n]
            assert server.seen
    with pytest.raises(ServiceGone, match="nothing listens there by the proxy of HTTP_PROXY"):
        engine("http://example.invalid/v1").generate(requests(20)[-2:])
    with Fake(default=status(407, {"Proxy-Authenticate": "Basic"})) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.removesuffix("/v1"))
        with pytest.raises((InputError, ServiceGone), match="proxy of HTTPS_PROXY"):
            engine("https://example.invalid/v1").generate(requests(20)[-2:])
    monkeypatch.setenv("HTTP_PROXY", "nonsense://x:y:z")
    with pytest.raises(InputError, match="check HTTP_PROXY, which names a proxy"):
        engine("http://example.invalid/v1").generate(requests(20)[-2:])


def test_a_server_that_closes_its_connections_between_answers_is_asked_on(engine):
    with Fake(default=("says", " x", {})) as server:
        server.http.RequestHandlerClass = type("Closing", (server.http.RequestHandlerClass,), {"protocol_version": "HTTP/1.0"})
        assert [r.text for r in engine(server).generate(requests(6))] == [" x"] * 6


def test_what_is_loopback():
    assert all(map(is_loopback, ("localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::")))
    assert not any(map(is_loopback, ("gpu7", "10.0.0.1", "localhost.example", "", None, "fe80::1")))
