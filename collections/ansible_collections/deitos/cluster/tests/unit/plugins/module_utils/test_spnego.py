"""HTTPS with Kerberos: one login a server, verified both ways, failures told for what they are."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import spnego

sys.path.insert(0, str(Path(__file__).parent))
from https_server import COOKIE, PROOF, Login, Server, kerberized


def ok(_request):
    return 200, [], b"fine"


@pytest.fixture
def serve(authority):
    """Calls serve(answer, names): a running server with a certificate for these names."""
    servers = []

    def start(answer, names=("localhost",), ca=authority, **certificate):
        key, path = ca.issue(f"host{len(servers)}", names, **certificate)
        servers.append(Server(key, path, answer))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def client(authority):
    with spnego.Client(Login(), str(authority.certificate), timeout=5) as client:
        yield client


def test_one_login_and_one_connection_for_many_requests(serve, client):
    server = serve(kerberized(ok))
    for _ in range(20):
        assert client.request("GET", server.url + "/x").body == b"fine"
    assert client.logins == client.login.contexts == 1
    assert server.connections == 1
    assert sum("Authorization" in request.headers for request in server.seen) == 1


def test_a_cookie_that_no_longer_holds_is_replaced(serve, client):
    good = ["u=somebody&s=1"]
    server = serve(kerberized(ok, good))
    client.request("GET", server.url)
    client._cookies[("localhost", server.port)] = '"u=somebody&s=old"'
    assert client.request("GET", server.url).status == 200
    assert client.logins == 2


def test_a_server_that_gives_no_cookie_is_logged_in_to_each_time(serve, client):
    server = serve(lambda _request: (200, [PROOF], b""))
    client.request("GET", server.url)
    client.request("GET", server.url)
    assert client.logins == 2


def test_a_server_that_proves_nothing_is_not_believed(serve, client):
    with pytest.raises(spnego.NotAccepted, match="without proving"):
        client.request("GET", serve(lambda _request: (200, [COOKIE], b"trust me")).url)
    assert client._cookies == {}


def test_a_server_with_a_wrong_proof_is_not_believed(serve, client):
    wrong = ("WWW-Authenticate", "Negotiate bm9uc2Vuc2U=")
    with pytest.raises(spnego.NotAccepted, match="could not prove"):
        client.request("GET", serve(lambda _request: (200, [wrong, COOKIE], b"")).url)
    assert client._cookies == {}


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_ticket(serve, client, status):
    page = b"<html><head><style>p{}</style></head><p>GSSException: Checksum failed</p></html>"
    with pytest.raises(spnego.NotAccepted, match="HTTP/localhost") as caught:
        client.request("GET", serve(lambda _request: (status, [], page)).url)
    assert "(GSSException: Checksum failed)" in str(caught.value)
    assert "<p>" not in str(caught.value) and "p{}" not in str(caught.value)


def test_a_server_whose_clock_is_off(serve, client):
    page = b"GSSException: Failure (Mechanism level: Clock skew too great (37))"
    with pytest.raises(spnego.ClockSkew, match="NTP"):
        client.request("GET", serve(lambda _request: (403, [], page)).url)


def test_a_refusal_after_the_login_is_an_answer(serve, client):
    server = serve(kerberized(lambda _request: (403, [], b"not yours")))
    assert client.request("GET", server.url).status == 403


def test_no_ticket_for_whom_none_is_wanted(serve, client):
    server = serve(ok)
    client.request("GET", server.url, negotiate=False)
    assert "Authorization" not in server.seen[0].headers and client.logins == 0


def test_a_certificate_of_another_name(serve, client):
    server = serve(kerberized(ok), names=("elsewhere.example.org",))
    with pytest.raises(spnego.CertificateProblem, match="name 'localhost'"):
        client.request("GET", server.url)
    assert server.seen == []


def test_a_certificate_of_another_authority(serve, client, stranger):
    server = serve(kerberized(ok), ca=stranger)
    with pytest.raises(spnego.CertificateProblem, match="signed by a CA in"):
        client.request("GET", server.url)
    assert server.seen == [] and client.logins == 0


def test_a_certificate_out_of_date(serve, client):
    server = serve(kerberized(ok), days=0)
    with pytest.raises(spnego.CertificateProblem, match="expired"):
        client.request("GET", server.url)


@pytest.mark.parametrize("url", ["http://localhost:9870/", "localhost:9871", "https:///x"])
def test_nothing_but_https(client, url):
    with pytest.raises(spnego.Problem, match="only verified TLS"):
        client.request("GET", url)


def test_nobody_listens(client):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(spnego.Refused, match=f"nobody listens at localhost:{port}"):
        client.request("GET", f"https://localhost:{port}/")


def test_an_unknown_name(client):
    with pytest.raises(spnego.Unreachable, match="cannot be resolved"):
        client.request("GET", "https://no-such-host.invalid:9871/")


@pytest.fixture
def forgetful(serve):
    """A server that closes every kept connection at its second request, without an answer."""
    connections = {}

    def answer(request):
        count = connections[request.client_address] = connections.get(request.client_address, 0) + 1
        return (None, [], b"") if count == 2 else (200, [], b"fine")

    return serve(kerberized(answer))


def test_a_closed_connection_is_opened_anew_for_what_may_be_repeated(forgetful, client):
    for _ in range(3):
        assert client.request("GET", forgetful.url, repeat=True).status == 200


def test_what_may_not_be_repeated_is_not(forgetful, client):
    client.request("PUT", forgetful.url)
    with pytest.raises(spnego.Interrupted, match="did not answer PUT"):
        client.request("PUT", forgetful.url)
    assert len(forgetful.seen) == 2


def test_no_answer_in_time(serve, authority):
    def slow(_request):
        time.sleep(1)
        return 200, [], b""

    server = serve(slow)
    with (
        spnego.Client(Login(), str(authority.certificate), timeout=0.2) as client,
        pytest.raises(spnego.Interrupted, match="did not answer GET /x"),
    ):
        client.request("GET", server.url + "/x?delegation=secret", repeat=True)
    assert len(server.seen) == 1


def test_a_token_in_a_url_is_not_told(serve, client):
    server = serve(lambda _request: (None, [], b""))
    with pytest.raises(spnego.Interrupted) as caught:
        client.request("GET", server.url + "/x?delegation=secret", negotiate=False)
    assert "secret" not in str(caught.value)


def test_a_missing_or_bad_ca_file(tmp_path):
    with pytest.raises(spnego.CertificateProblem, match="there is no CA certificate"):
        spnego.trust(str(tmp_path / "none"))
    (tmp_path / "bad").write_text("not a certificate")
    with pytest.raises(spnego.CertificateProblem, match="cannot be used"):
        spnego.trust(str(tmp_path / "bad"))


class Gss(Exception):
    """A GSSAPI error as python-gssapi has it."""

    def __init__(self, code, text):
        super().__init__(
            f"Major (458752): No credentials were supplied, Minor ({code % 2**32}): {text}"
        )
        self.min_code = code


@pytest.mark.parametrize(
    ("code", "text", "problem", "advice"),
    [
        (-1765328347, "Zeitunterschied", spnego.ClockSkew, "NTP"),
        (-1765328378, "?", spnego.TicketProblem, "create the principal"),
        (-1765328377, "?", spnego.TicketProblem, "HTTP/nn1"),
        (-1765328360, "?", spnego.TicketProblem, "issue the keytab again"),
        (-1765328366, "?", spnego.TicketProblem, "disabled or locked"),
        (-1765328228, "?", spnego.KdcUnreachable, "krb5kdc"),
        (-1765328203, "?", spnego.KeytabProblem, "klist -k /k"),
        (2**32 - 1765328347, "as an unsigned number", spnego.ClockSkew, "NTP"),
        (100001, "Clock skew too great", spnego.ClockSkew, "NTP"),
        (100005, "Server HTTP/x@R not found in Kerberos database", spnego.TicketProblem, "alias"),
        (100005, "Client 'x@R' not found in Kerberos database", spnego.TicketProblem, "know me"),
        (100005, "Cannot contact any KDC for realm 'R'", spnego.KdcUnreachable, "port 88"),
        (7, "something new", spnego.TicketProblem, "no ticket for me"),
    ],
)
def test_what_kerberos_says(code, text, problem, advice):
    found = spnego.Login("/k", "me").problem(Gss(code, text), "nn1")
    assert type(found) is problem
    assert advice in str(found) and f"({text})" in str(found)


def test_keytabs_that_cannot_be_used(tmp_path, monkeypatch):
    with pytest.raises(spnego.KeytabProblem, match="there is no keytab"):
        spnego.Login(str(tmp_path / "none"))._acquire(None)
    monkeypatch.setattr(spnego.os, "access", lambda *_arguments: False)
    with pytest.raises(spnego.KeytabProblem, match="cannot be read as"):
        spnego.Login(str(tmp_path))._acquire(None)
