"""Dumps reach the backup host, where root alone can read them."""

from __future__ import annotations

import re
import time

import pytest
from labhosts import Session

STORE = "/var/backups/deitos/store"
EXPECTED = {
    "kdc": ["dumps/kdc.dump"],
    "ldap": ["dumps/ldap-data.ldif", "dumps/ldap-config.ldif"],
    "ca": ["etc/deitos/ca/ca.key"],
    "postgresql": ["dumps/postgresql.sql"],
    "namenode": ["dumps/fsimage_", "current/VERSION"],
}


@pytest.fixture(scope="module")
def vault(cluster):
    return cluster.first("backup")


def arrived(vault, journal):
    """Where the archive that a source says it sent is kept, once it is there."""
    kept = f"{STORE}/{re.findall(r'sent (.+) to', journal)[-1]}"
    deadline = time.time() + 30
    while not vault.file(kept).exists and time.time() < deadline:
        time.sleep(0.5)
    return kept


@pytest.mark.parametrize("group", EXPECTED)
def test_dump_arrives_whole_and_private(cluster, vault, group):
    source = cluster.first(group)
    source.check_output("systemctl start deitos-backup")
    assert "sent" in source.check_output("journalctl -u deitos-backup -n 5")
    newest = arrived(vault, source.check_output("journalctl -u deitos-backup -n 5 -o cat"))
    content = vault.check_output(f"tar tzf {newest}")
    for name in EXPECTED[group]:
        assert name in content
    kept = vault.file(newest)
    assert (kept.user, kept.mode) == ("root", 0o400)
    for user in ("nobody", "deitos-backup"):
        assert vault.run(f"runuser -u {user} -- cat {newest}").rc != 0


def sftp(cluster, group, command):
    """Try one SFTP command on the receiving account with the key of a group's host."""
    session = Session(cluster.first(group), "root", name=f"backup_{group}")
    session.login(f"host/{cluster.fqdn(group)}", "/etc/krb5.keytab")
    options = "-oBatchMode=yes -oGSSAPIAuthentication=yes -oGSSAPIKeyExchange=yes"
    target = f"deitos-backup@{cluster.fqdn('backup')}"
    return session.run(f"sftp -b - {options} {target}", stdin=command + "\n")


def test_only_listed_hosts_may_send(cluster):
    """A worker's key does not open the receiving account."""
    allowed = sftp(cluster, "kdc", "pwd")
    assert allowed.rc == 0, allowed.stderr
    assert sftp(cluster, "datanode", "pwd").rc != 0


def test_sender_cannot_read_what_others_sent(cluster):
    allowed = sftp(cluster, "kdc", "pwd")
    assert allowed.rc == 0, allowed.stderr
    for command in ("ls /store", "ls /incoming", "get /incoming/x"):
        assert sftp(cluster, "kdc", command).rc != 0, command
