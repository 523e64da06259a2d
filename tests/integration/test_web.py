"""Every web interface: HTTPS and SPNEGO or nothing; cookies of one host are none on another."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

import pytest

DAEMONS = [
    "namenode",
    "secondarynamenode",
    "datanode",
    "resourcemanager",
    "nodemanager",
    "historyserver",
]
PAGES = ["/jmx", "/conf", "/logs/", "/stacks", "/logLevel?log=root"]


@pytest.mark.parametrize("daemon", DAEMONS)
def test_pages_need_a_ticket(cluster, admin, nobody, daemon):
    for page in PAGES:
        url = cluster.web()[daemon] + page
        allowed = admin.curl(url, "-L", "--location-trusted")
        assert allowed.status == 200, f"{url}: {allowed.status} {allowed.error}"
        refused = nobody.curl(url, negotiate=False)
        assert refused.status == 401, f"{url} without a ticket: {refused.status}"


@pytest.mark.parametrize("daemon", DAEMONS)
def test_instruments_and_logs_are_for_administrators(cluster, admin, test_user, daemon):
    for page in PAGES:
        url = cluster.web()[daemon] + page
        assert admin.curl(url, "-L").status == 200, url
        refused = test_user.curl(url, "-L")
        assert refused.status == 403, f"{url}: {refused.status} {refused.body[:200]}"


@pytest.mark.parametrize("daemon", DAEMONS)
def test_user_interface_needs_a_ticket(cluster, admin, nobody, daemon):
    # A DataNode redirects its root to a plaintext address, which nothing answers.
    url = cluster.web()[daemon] + ("/index.html" if daemon == "datanode" else "/")
    assert admin.curl(url, "-L", "--location-trusted").status == 200
    assert nobody.curl(url, "-L", negotiate=False).status == 401


@pytest.mark.parametrize("daemon", DAEMONS)
def test_plaintext_is_not_answered(cluster, nobody, daemon):
    secure = cluster.web()[daemon]
    assert nobody.curl(secure + "/jmx", negotiate=False).status == 401
    assert nobody.curl(secure.replace("https", "http") + "/jmx", negotiate=False).status == 0


@pytest.mark.parametrize(
    ("daemon", "port"),
    [
        ("namenode", 9870),
        ("secondarynamenode", 9868),
        ("datanode", 9864),
        ("resourcemanager", 8088),
        ("nodemanager", 8042),
        ("historyserver", 19888),
    ],
)
def test_plaintext_ports_are_closed(cluster, nobody, daemon, port):
    assert nobody.curl(cluster.web()[daemon] + "/jmx", negotiate=False).status == 401
    assert nobody.curl(f"http://{cluster.fqdn(daemon)}:{port}/", negotiate=False).status == 0


def forged(secret, user, principal):
    """A hadoop.auth cookie as Hadoop's Signer makes it."""
    expires = int((time.time() + 3600) * 1000)
    text = f"u={user}&p={principal}&t=kerberos&e={expires}"
    digest = hmac.new(secret, text.encode(), hashlib.sha256).digest()
    return f'hadoop.auth="{text}&s={base64.b64encode(digest).decode()}"'


def secret_of(machine):
    encoded = machine.check_output("base64 -w0 /etc/security/http-secrets/hdfs.secret")
    return base64.b64decode(encoded)


def test_cookie_forged_with_a_workers_secret_is_refused(cluster, nobody):
    url = cluster.web()["namenode"] + "/jmx"
    principal = f"nn/{cluster.fqdn('namenode')}@{cluster.realm}"
    statuses = [
        nobody.curl(
            url,
            "-b",
            forged(secret_of(cluster.first(group)), "hdfs", principal),
            negotiate=False,
        ).status
        for group in ("namenode", "datanode")
    ]
    assert statuses[0] == 200, "the forgery itself must be right, or this proves nothing"
    assert statuses[1] in (401, 403)
