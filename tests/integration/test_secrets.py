"""Secrets stay where they were born: looked for by their values, on every machine."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest
from labhosts import STATE

SCAN = Path(__file__).with_name("secretscan.py").read_text(encoding="utf-8")
KEYTABS = "/etc/security/keytabs"
# On whose hosts, what (a shell's pattern), and its owner, group and mode.
PRIVATE = [
    ("all", "/etc/krb5.keytab", "root root 400"),
    ("all", "/etc/deitos/pki/host.key", "root tls 440"),
    ("all", "/etc/deitos/pki/keystore.*", "root tls 440"),
    ("all", "/etc/sssd/sssd.conf", "root root 600"),
    ("all", "/run/deitos/daemons", "root root 700"),
    ("ca", "/etc/deitos/ca", "root root 700"),
    ("ca", "/etc/deitos/ca/ca.key", "root root 400"),
    ("kdc", "/etc/krb5kdc/stash", "root root 600"),
    ("kdc", "/etc/krb5kdc/kadm5.acl", "root root 600"),
    ("kdc", "/var/lib/krb5kdc", "root root 700"),
    ("kdc", "/var/log/krb5kdc", "root root 700"),
    ("kdc", "/var/lib/deitos/initial-passwords", "root root 700"),
    ("kdc", "/var/lib/deitos/initial-passwords/*", "root root 600"),
    ("ldap", f"{KEYTABS}/openldap.keytab", "openldap openldap 400"),
    ("ldap", "/var/lib/ldap/data.mdb", "openldap openldap 600"),
    ("ldap", "/etc/ldap/slapd.d/cn=config.ldif", "openldap openldap 600"),
    ("namenode", f"{KEYTABS}/hdfs.keytab", "hdfs hdfs 400"),
    ("namenode", "/etc/security/http-secrets/hdfs.secret", "hdfs hdfs 400"),
    ("namenode", "/etc/hadoop/ssl-server.xml", "root hadoop 640"),
    ("namenode", "/var/lib/hadoop/hdfs/name*", "hdfs hdfs 700"),
    ("secondarynamenode", "/var/lib/hadoop/hdfs/checkpoint", "hdfs hdfs 700"),
    ("datanode", f"{KEYTABS}/hdfs.keytab", "hdfs hdfs 400"),
    ("datanode", "/etc/security/http-secrets/hdfs.secret", "hdfs hdfs 400"),
    ("datanode", "/etc/hadoop/ssl-server.xml", "root hadoop 640"),
    ("datanode", "/var/lib/hadoop/hdfs/data*", "hdfs hdfs 700"),
    ("resourcemanager", f"{KEYTABS}/yarn.keytab", "yarn yarn 400"),
    ("resourcemanager", "/etc/security/http-secrets/yarn.secret", "yarn yarn 400"),
    ("resourcemanager", "/var/lib/hadoop/yarn/rm-state", "yarn yarn 700"),
    ("nodemanager", f"{KEYTABS}/yarn.keytab", "yarn yarn 400"),
    ("nodemanager", "/etc/security/http-secrets/yarn.secret", "yarn yarn 400"),
    ("nodemanager", "/opt/hadoop/etc/hadoop/container-executor.cfg", "root root 400"),
    ("nodemanager", "/var/lib/hadoop/yarn/nm-recovery", "yarn yarn 700"),
    ("nodemanager", "/var/lib/hadoop/yarn/local/nmPrivate", "yarn yarn 700"),
    ("historyserver", f"{KEYTABS}/mapred.keytab", "mapred mapred 400"),
    ("historyserver", "/etc/security/http-secrets/mapred.secret", "mapred mapred 400"),
    ("historyserver", "/var/lib/hadoop/mapred/recovery", "mapred mapred 700"),
    ("spark_history", f"{KEYTABS}/spark.keytab", "spark spark 400"),
    ("spark_history", "/etc/security/http-secrets/spark.secret", "spark spark 400"),
    ("spark_history", "/etc/spark/history/spark-defaults.conf", "root spark 440"),
    ("spark_history", "/run/spark-history-proxy", "spark spark 700"),
    ("spark_history", "/run/spark-history-proxy/token.conf", "spark spark 400"),
    ("spark_history", "/var/lib/spark/history", "spark spark 700"),
    ("edge", f"{KEYTABS}/test_user.keytab", "test_user test_user 400"),
    ("backup", "/var/backups/deitos/store", "root root 700"),
    ("kdc", "/etc/deitos/backup.json", "root root 600"),
]


def hosts_of(cluster, group):
    return cluster.everyone() if group == "all" else cluster.hosts(group)


def scan(host, task, wanted=None):
    """Run the scanner; secrets pass through this connection alone and are not logged."""
    done = subprocess.run(
        ["ssh", "-F", str(STATE / "ssh_config"), host, f"python3 -c {shlex.quote(SCAN)} {task}"],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def owned(cluster):
    """{host: {name: secret}}."""
    return {host: scan(host, "collect") for host in cluster.everyone()}


@pytest.fixture(scope="module")
def modes(cluster):
    """{host: {path: owner, group and mode}} of what PRIVATE names."""
    patterns = " ".join(sorted({pattern for _group, pattern, _expected in PRIVATE}))
    return {
        host: dict(
            line.split("|")
            for line in cluster.machine(host)
            .run(f"stat -c '%n|%U %G %a' {patterns} 2>/dev/null")
            .stdout.splitlines()
        )
        for host in cluster.everyone()
    }


@pytest.mark.parametrize(("group", "pattern", "expected"), PRIVATE)
def test_private_files_are_private(cluster, modes, group, pattern, expected):
    for host in hosts_of(cluster, group):
        found = {path: mode for path, mode in modes[host].items() if fnmatch(path, pattern)}
        # Once everybody has a password of his own, no first one is left.
        assert found or "initial-passwords/" in pattern, f"{host}: no {pattern}"
        assert found == dict.fromkeys(found, expected), host


def test_no_keytab_is_open(cluster):
    """Whatever keytabs there are, known or not, are for their owner's eyes.

    Packages of Debian, and of Python in the releases, bring keys of their own tests: everybody's.
    """
    for host in cluster.everyone():
        shown = cluster.machine(host).check_output(
            "find / -xdev \\( -name '*.keytab' -o -name '*.p12' -o -name '*.key' \\) "
            "-not -path '/usr/*' -not -path '*/site-packages/*' -perm /007"
        )
        assert shown == "", f"{host}: {shown}"


def test_secrets_show_nowhere(cluster, owned):
    """In no argument, environment, log or readable file of any machine."""
    wanted = {f"{host}:{name}": value for host in owned for name, value in owned[host].items()}
    assert len(wanted) > 40
    assert all(len(value) >= 16 for value in wanted.values())
    for host in cluster.everyone():
        assert scan(host, "search", wanted) == [], host


def test_the_search_finds_what_is_shown(cluster, edge):
    """The control: a made-up secret in each kind of place is found in all of them."""
    control = secrets.token_hex(20)
    encoded = control.encode().hex()
    path = f"/tmp/control-{secrets.token_hex(4)}"
    edge.check_output(
        f"umask 022; echo {encoded} > {path};"
        f" for n in 1 22 333; do echo $n-{control}-$n | base64 -w0 > {path}.$n; done;"
        f" umask 077; echo {control} > {path}.private;"
        f" echo {control} > /var/log/control;"
        f" CONTROL={control} setsid sleep 20 > /dev/null 2>&1 < /dev/null &"
        f" setsid sh -c 'sleep 20; : {control}' > /dev/null 2>&1 < /dev/null &"
    )
    try:
        found = scan(cluster.hosts("edge")[0], "search", {"control": encoded})
    finally:
        edge.run(f"rm -f {path} {path}.* /var/log/control")
    places = [place for _name, place in found]
    assert path in places
    # Within something longer, wherever its base 64 begins.
    assert {f"{path}.{before}" for before in (1, 22, 333)} <= set(places)
    assert f"{path}.private" not in places
    assert "/var/log/control" in places
    for kind in ("cmdline", "environ"):
        assert any(place.startswith(f"{kind} of process ") for place in places), places


def test_every_secret_is_its_hosts_own(owned):
    """Cookies of one daemon are none on another host; so with keystores and keys."""
    seen = {}
    for host, found in owned.items():
        for name, value in found.items():
            # A principal's HTTP key lies in the keytab of every daemon of its host.
            if not name.endswith((".password", ".secret", ".key")):
                continue
            assert value not in seen, f"{host}:{name} is {seen[value]}"
            seen[value] = f"{host}:{name}"
    assert len(seen) >= 3 * len(owned)


def test_keytabs_hold_their_own_hosts_keys_only(cluster, owned):
    for host, found in owned.items():
        for name in found:
            if match := re.match(r"(\S+\.keytab) (\S+) \d+$", name):
                service, _, instance = match[2].partition("/")
                own = instance in (f"{host}.{cluster.domain}", host)
                account = not instance and match[1] == f"{KEYTABS}/{service}.keytab"
                assert own or account, f"{host}: {name}"


def test_groups_that_open_secrets_hold_services_alone(cluster):
    """Nobody of the directory is in a group that may read keys or start containers."""
    for host in cluster.everyone():
        machine = cluster.machine(host)
        shown = machine.check_output("getent group tls hadoop yarn hdfs mapred").splitlines()
        members = {
            line.split(":")[0]: set(filter(None, line.split(":")[3].split(","))) for line in shown
        }
        services = {"hdfs", "yarn", "mapred", "hive", "spark", "jupyter", "llama", "openldap"}
        assert members["tls"] <= services, host
        assert members["hadoop"] == {"hdfs", "yarn", "mapred"}, host
        for private in ("yarn", "hdfs", "mapred"):
            assert members[private] == set(), host


def test_sudo_is_for_the_lab_alone(cluster):
    """The one rule beside root's is the stand-in's for container-executor."""
    for host in cluster.everyone():
        machine = cluster.machine(host)
        rules = machine.run(
            "cat /etc/sudoers /etc/sudoers.d/* | grep -vE '^(#|$|Defaults|@include|%sudo|root)'"
        ).stdout.splitlines()
        expected = ["yarn ALL=(root) NOPASSWD: /usr/local/libexec/deitos-lab/container_executor.py"]
        assert rules == (expected if host in cluster.hosts("nodemanager") else []), host
        assert machine.check_output("getent group sudo").endswith(":"), host
