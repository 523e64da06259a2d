"""Whatever listens is documented, and protected as the documentation says.

The list is ports.yml beside this file. Ports that listen only while jobs run are knocked at in
test_day1.py, where one runs.
"""

from __future__ import annotations

import re

import pytest
from sockets import (
    DOCUMENTED,
    addresses,
    entries_of,
    knock,
    listening,
    numbers,
    undocumented,
)


def test_nothing_else_listens(cluster):
    found = {host: undocumented(cluster, host) for host in cluster.everyone()}
    assert found == {host: [] for host in found}


def test_everything_documented_listens(cluster):
    for host in cluster.everyone():
        open_ports = {(socket.protocol, socket.port) for socket in listening(cluster, host)}
        documented = {
            (protocol, port)
            for entry in entries_of(cluster, host)
            if not entry.get("job")
            for protocol in entry.get("protocols", ["tcp"])
            for port in numbers(entry["ports"])
        }
        assert documented <= open_ports, f"{host}: nobody listens on {documented - open_ports}"


@pytest.mark.parametrize("kind", ["tls", "starttls"])
def test_tls_is_the_clusters(cluster, edge, kind):
    """Verified against the cluster's authority and the host's name."""
    places = addresses(cluster, kind)
    assert places
    answers = dict(zip(map(tuple, places), knock(edge, kind, places), strict=True))
    for place, answer in answers.items():
        assert answer["error"] is None, f"{place}: {answer['error']}"
        assert answer["version"] in ("TLSv1.2", "TLSv1.3"), place


def test_tls_ports_do_not_answer_in_plain_text(cluster, edge):
    places = addresses(cluster, "tls")
    for place, answer in zip(places, knock(edge, "plain", places), strict=True):
        said = answer.get("said", "")
        assert " 200 " not in said and " 401 " not in said, f"{place}: {said}"


def test_rpc_demands_proof_and_privacy(cluster, edge):
    """Nobody gets in on his word, and no server offers less than encryption."""
    places = addresses(cluster, "rpc")
    assert len(places) > 8
    for place, answer in zip(places, knock(edge, "simple", places), strict=True):
        assert "SIMPLE authentication is not enabled" in answer.get("said", ""), (place, answer)
    for place, answer in zip(places, knock(edge, "sasl", places), strict=True):
        said = answer.get("said", "")
        assert "KERBEROS" in said or "TOKEN" in said, (place, answer)
        assert "SIMPLE" not in said, (place, said)
        if "qop=" in said:
            assert 'qop="auth-conf"' in said, (place, said)


def test_datanodes_answer_nothing_without_sasl(cluster, edge):
    places = addresses(cluster, "blocks")
    assert len(places) == len(cluster.hosts("datanode"))
    for place, answer in zip(places, knock(edge, "blocks", places), strict=True):
        assert (answer["error"], answer.get("said")) == (None, ""), place


def test_postgresql_wants_tls_and_a_certificate(cluster, edge):
    places = addresses(cluster, "postgresql")
    for host in (cluster.first("postgresql"), edge):
        for place, answer in zip(places, knock(host, "postgresql_plain", places), strict=True):
            assert "no pg_hba.conf entry" in answer["said"], (place, answer)
    # From its own host, which is listed, it goes as far as to ask for the certificate.
    for place, answer in zip(
        places, knock(cluster.first("postgresql"), "postgresql", places), strict=True
    ):
        assert answer["version"] in ("TLSv1.2", "TLSv1.3"), (place, answer)
        assert "requires a valid client certificate" in answer["said"], (place, answer)
    for place, answer in zip(places, knock(edge, "postgresql", places), strict=True):
        assert "no pg_hba.conf entry" in answer["said"], (place, answer)


def test_thrift_demands_kerberos(cluster, edge):
    places = addresses(cluster, "thrift")
    for place, answer in zip(places, knock(edge, "thrift", places), strict=True):
        assert "default" not in answer["said"], (place, answer)
    for place, answer in zip(places, knock(edge, "thrift_sasl", places), strict=True):
        assert "default" not in answer["said"] and "PLAIN" in answer["said"], (place, answer)


def test_exceptions_are_few_and_as_described(cluster):
    """What is not encrypted listens on loopback alone, and still wants proof."""
    exceptions = DOCUMENTED["exceptions"]
    assert len(exceptions) <= 3
    for exception in exceptions:
        print(f"unencrypted: {exception['what']} ({exception['group']}), on loopback")
    users = {(exception["group"], exception["user"]) for exception in exceptions}
    for host in cluster.everyone():
        # systemd, sshd and Docker's name server have the lower numbers and 127.0.0.11.
        local = {
            socket
            for socket in listening(cluster, host)
            if socket.loopback and socket.address != "127.0.0.11"
        }
        for socket in local:
            assert any(
                socket.user == user and host in cluster.hosts(group) for group, user in users
            ), f"{socket} is not on the list of exceptions"
        places = [("127.0.0.1", socket.port) for socket in local]
        for place, answer in zip(places, knock(cluster.machine(host), "plain", places)):
            # A ticket is asked for, or TLS.
            said = answer.get("said", "")
            assert re.match(r"HTTP/\S+ (401|302) ", said) or "HTTP/" not in said, (place, said)
