"""ldap_entries over the network: a real slapd with TLS, tickets of a real KDC, certificates."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.deitos.cluster.plugins.modules import ldap_entries

COLLECTIONS = str(Path(__file__).resolve().parents[7])
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
UNPACKED = CACHE / "deitos-cluster/kdc-tools"

CONFIG = """\
dn: cn=config
objectClass: olcGlobal
cn: config
olcPidFile: {root}/slapd.pid
olcTLSCACertificateFile: {ca}
olcTLSCertificateFile: {certificate}
olcTLSCertificateKeyFile: {key}
olcTLSVerifyClient: try
olcSaslHost: localhost
olcSaslRealm: {realm}
olcSecurity: tls=128

dn: cn=module,cn=config
objectClass: olcModuleList
cn: module
olcModulePath: {modules}
olcModuleLoad: back_mdb

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

include: file://{schema}/core.ldif

dn: olcDatabase={{0}}config,cn=config
objectClass: olcDatabaseConfig
olcDatabase: {{0}}config
olcAccess: {{0}}to * by * none

dn: olcDatabase={{1}}mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: {{1}}mdb
olcSuffix: dc=unit
olcDbDirectory: {root}/data
olcAccess: {{0}}to *
  by dn.regex="^uid=admin,(cn=[^,]+,)?cn=gssapi,cn=auth$" write
  by dn.exact="cn=admin.example" write
  by users read
"""


SUFFIX = "dn: dc=unit\nobjectClass: organization\nobjectClass: dcObject\no: unit\ndc: unit\n"


class Slapd:
    """A server of its own, and what its administrator has."""

    def __init__(self, root, environment):
        self.root = root
        self.environment = environment
        self.ports = {}

    def uri(self, scheme):
        return f"{scheme}://localhost:{self.ports[scheme]}"

    def command(self, program, *arguments, data=None):
        """Run one of slapd's programs on the server's files."""
        done = subprocess.run(
            [program, "-F", str(self.root / "config"), *arguments],
            env=self.environment,
            input=data,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def entries(self):
        """All entries, as LDIF: the tests' second opinion."""
        return self.command("slapcat", "-n", "1", "-o", "ldif_wrap=no")


def free_ports():
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return {"ldap": one.getsockname()[1], "ldaps": other.getsockname()[1]}


@pytest.fixture
def slapd(kdc, authority, tmp_path, monkeypatch):
    """A running server that wants TLS and knows two administrators: one by ticket, one by
    certificate."""
    base = Path("/") if Path("/usr/sbin/slapd").exists() else UNPACKED
    if not (base / "usr/sbin/slapd").exists():
        reason = "no LDAP server can be made here: slapd not found"
        if os.environ.get("KDC_REQUIRED"):
            pytest.fail(f"{reason}; run tests/kdc_tools.sh")
        pytest.skip(reason)
    libraries = next(base.glob("usr/lib/*-linux-gnu"))
    monkeypatch.setenv("SASL_PATH", str(libraries / "sasl2"))
    monkeypatch.setenv("PATH", str(base / "usr/sbin"), prepend=os.pathsep)
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/nobody.cc")
    environment = dict(
        os.environ, KRB5_KTNAME=str(tmp_path / "ldap.keytab"), KRB5RCACHENAME="none:"
    )
    if base == UNPACKED:
        environment["LD_LIBRARY_PATH"] = str(libraries)

    kdc.start()
    for name, keytab in (("ldap/localhost", "ldap.keytab"), ("admin", "admin.keytab")):
        kdc.ask("addprinc", "-randkey", name)
        kdc.ask("ktadd", "-norandkey", "-k", str(tmp_path / keytab), name)

    server = Slapd(tmp_path / "slapd", environment)
    for directory in ("", "config", "data"):
        (server.root / directory).mkdir()
    # libldap expects the machine's own name in the certificate of "localhost".
    names = ["localhost", socket.gethostname(), socket.getfqdn()]
    key, certificate = authority.issue("localhost", names)
    values = {
        "root": server.root,
        "ca": authority.certificate,
        "certificate": certificate,
        "key": key,
        "realm": kdc.realm,
        "modules": base / "usr/lib/ldap",
        "schema": base / "etc/ldap/schema",
    }
    server.command("slapadd", "-n", "0", data=CONFIG.format(**values))
    server.command("slapadd", "-n", "1", data=SUFFIX)
    server.ports = free_ports()
    # It returns when it listens.
    server.command("slapd", "-h", " ".join(server.uri(scheme) for scheme in server.ports))
    yield server
    os.kill(int((server.root / "slapd.pid").read_text()), signal.SIGTERM)


@pytest.fixture
def ways(kdc, slapd, authority, tmp_path, monkeypatch):
    """How the administrator's rights are had: {name: options}."""
    key, certificate = authority.issue("admin.example", ["admin.example"])
    kdc.command(
        "kinit", "-c", f"FILE:{tmp_path}/own.cc", "-kt", f"{tmp_path}/admin.keytab", "admin"
    )
    tls = {"uri": slapd.uri("ldap"), "start_tls": True}
    ldaps = {"uri": slapd.uri("ldaps")}
    keytab = {"bind": "gssapi", "keytab": f"{tmp_path}/admin.keytab", "principal": "admin"}
    by_certificate = {"client_cert": str(certificate), "client_key": str(key)}
    every = {
        "a keytab and TLS": tls | keytab,
        "a keytab and ldaps": ldaps | keytab,
        "an own ticket": tls | {"bind": "gssapi"},
        "a certificate and TLS": tls | by_certificate,
        "a certificate and ldaps": ldaps | by_certificate,
    }

    def way(name):
        if name == "an own ticket":
            monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/own.cc")
        return every[name] | {"ca_path": str(authority.certificate)}

    return way


@pytest.fixture
def run_module():
    """As in-process, but in a process of its own: libsasl2 looks for its plugins only once."""

    def run(module, check=False, **parameters):
        arguments = {**parameters, "_ansible_check_mode": check, "_ansible_diff": True}
        done = subprocess.run(
            [sys.executable, "-m", module.__name__],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            env={**os.environ, "PYTHONPATH": COLLECTIONS},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.stdout, done.stderr
        return {"failed": False, **json.loads(done.stdout)}

    return run


DN = "ou=people,dc=unit"
PEOPLE = {
    "dn": DN,
    "attributes": {"objectClass": "organizationalUnit", "ou": "people", "street": "Ünit"},
    "secrets": {"userpassword": "open-sesame"},
}


@pytest.mark.parametrize(
    "name",
    [
        "a keytab and TLS",
        "a keytab and ldaps",
        "an own ticket",
        "a certificate and TLS",
        "a certificate and ldaps",
    ],
)
def test_who_may_write_does(slapd, ways, four_runs, name):
    done = four_runs(ldap_entries, entries=[PEOPLE], **ways(name))
    assert done["added"] == [DN]
    assert "userpassword: (hidden)\n" in done["diff"][0]["after"]
    # open-sesame
    assert "userPassword:: b3Blbi1zZXNhbWU=" in slapd.entries()
    changed = {**PEOPLE, "attributes": {"description": ["one", "two"]}}
    assert four_runs(ldap_entries, entries=[changed], **ways(name))["modified"] == [DN]
    assert "description: two" in slapd.entries()
    gone = {"dn": DN, "state": "absent"}
    assert four_runs(ldap_entries, entries=[gone], **ways(name))["deleted"] == [DN]
    assert DN not in slapd.entries()


def test_who_may_not_is_told_why(slapd, ways, run_module, authority, stranger, tmp_path):
    way = ways("a certificate and TLS")

    def refused(*without, **options):
        options = {key: value for key, value in (way | options).items() if key not in without}
        done = run_module(ldap_entries, entries=[PEOPLE], **options)
        assert done["failed"] and not done.get("changed")
        return done["msg"]

    key, certificate = authority.issue("other.example", ["other.example"])
    assert "nsufficient access" in refused(client_cert=str(certificate), client_key=str(key))
    assert "olcTLSVerifyClient" in refused("client_cert", "client_key")
    assert "required together" in refused("client_key")
    assert "does the CA of 'ca_path'" in refused(ca_path=str(stranger.certificate))
    assert "cannot use" in refused(uri=f"ldap://127.0.0.1:{slapd.ports['ldap']}")
    plain = {"start_tls": False, "bind": "gssapi", "keytab": f"{tmp_path}/admin.keytab"}
    assert "set start_tls" in refused(principal="admin", **plain)
    assert "no ticket from the keytab" in refused(principal="nobody", **plain)
    assert DN not in slapd.entries()


def test_a_password_among_what_logs_show_is_refused(slapd, ways, run_module):
    bad = {"dn": DN, "attributes": {**PEOPLE["attributes"], "userPassword": "x"}}
    options = ways("a certificate and ldaps")
    for check in (True, False):
        done = run_module(ldap_entries, check=check, entries=[bad], **options)
        assert "under 'secrets'" in done["msg"]
    assert DN not in slapd.entries()


def test_no_secret_is_seen_in_all_detail(slapd, ways, playbook):
    for name, password in (("add", "first-Sesame"), ("change", "second-Sesame")):
        task = {
            "name": name,
            "deitos.cluster.ldap_entries": {
                "entries": [{**PEOPLE, "secrets": {"USERPASSWORD": password}}],
                **ways("a keytab and ldaps"),
            },
        }
        play = [{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]
        said = playbook(play, {})
        assert "changed=1 " in said
        assert "(hidden)" in said
        assert "Sesame" not in said
