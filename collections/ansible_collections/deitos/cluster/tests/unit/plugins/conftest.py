"""A real KDC of its own for a test: database, and daemons when asked for, in a temporary directory.

Needs the tools of Debian's krb5-kdc, krb5-admin-server and krb5-user, installed or as
tests/kdc_tools.sh of the project unpacks them; no system service is started and nothing in /etc is
used. Without the tools these tests are skipped, or fail where KDC_REQUIRED is set.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

REALM = "UNIT.TEST"
TOOLS = ("kadmin.local", "kdb5_util", "krb5kdc", "kadmind", "kinit", "klist")
COLLECTIONS = str(Path(__file__).resolve().parents[6])
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
UNPACKED = CACHE / "deitos-cluster/kdc-tools"

KRB5_CONF = """\
[libdefaults]
  default_realm = {realm}
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
[realms]
  {realm} = {{
    kdc = 127.0.0.1:{kdc_port}
    admin_server = 127.0.0.1:{kadmin_port}
    kpasswd_server = 127.0.0.1:{kpasswd_port}
  }}
"""

KDC_CONF = """\
[kdcdefaults]
  kdc_listen = 127.0.0.1:{kdc_port}
  kdc_tcp_listen = 127.0.0.1:{kdc_port}
[realms]
  {realm} = {{
    database_name = {root}/principal
    key_stash_file = {root}/stash
    acl_file = {root}/kadm5.acl
    max_life = 24h
    max_renewable_life = 7d
    supported_enctypes = aes256-sha2:normal aes256-cts:normal aes128-cts:normal
    kadmind_listen = 127.0.0.1:{kadmin_port}
    kpasswd_listen = 127.0.0.1:{kpasswd_port}
  }}
[logging]
  kdc = FILE:{root}/kdc.log
  admin_server = FILE:{root}/kadmind.log
"""


def _free_ports(count):
    sockets = [socket.socket() for _number in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Kdc:
    """A realm that lives as long as a test."""

    realm = REALM

    def __init__(self, root, configuration=""):
        self.root = root
        self.daemons = {}
        self.ports = dict(zip(("kdc_port", "kadmin_port", "kpasswd_port"), _free_ports(3)))
        values = {"root": root, "realm": REALM, **self.ports}
        (root / "krb5.conf").write_text(KRB5_CONF.format(**values) + configuration)
        (root / "kdc.conf").write_text(KDC_CONF.format(**values))
        (root / "kadm5.acl").write_text(f"admin@{REALM} *e\n")

    def command(self, *argv, data=""):
        """Run a program of Kerberos; its output and errors together."""
        done = subprocess.run(
            argv,
            input=data,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.stdout if done.returncode == 0 else f"FAILED {done.stdout}"

    def create(self):
        """Make the database."""
        password = os.urandom(16).hex()
        out = self.command("kdb5_util", "create", "-s", "-r", REALM, data=f"{password}\n" * 2)
        assert not out.startswith("FAILED"), out

    def ask(self, *words):
        """One command of kadmin.local, given the way a person would: the tests' second opinion."""
        return self.command("kadmin.local", *words)

    def start(self):
        """Start krb5kdc and kadmind."""
        self._start("krb5kdc", "-n", "kdc_port")
        self.start_kadmind()

    def grant(self, *lines):
        """Give kadmind other rules, who may do what."""
        (self.root / "kadm5.acl").write_text("".join(f"{line}\n" for line in lines))
        self.start_kadmind()

    def start_kadmind(self):
        """Start kadmind, in place of one that runs."""
        self._stop("kadmind")
        self._start("kadmind", "-nofork", "kadmin_port")

    def _start(self, program, flag, port):
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.daemons[program] = subprocess.Popen([program, flag], **silent)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.ports[port]), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, f"{program} does not listen"
                time.sleep(0.05)

    def _stop(self, program):
        daemon = self.daemons.pop(program, None)
        if daemon:
            daemon.terminate()
            daemon.wait(timeout=20)

    def stop(self):
        """Stop what was started."""
        for program in list(self.daemons):
            self._stop(program)

    def login(self, principal, password=None, keytab=None):
        """'' when a ticket is given, else what kinit says."""
        cache = f"FILE:{self.root}/ccache"
        if keytab:
            out = self.command("kinit", "-c", cache, "-k", "-t", str(keytab), principal)
        else:
            out = self.command("kinit", "-c", cache, principal, data=f"{password}\n")
        return out if out.startswith("FAILED") else ""


def _missing():
    return [tool for tool in TOOLS if not shutil.which(tool)]


@pytest.fixture
def kerberos_tools(monkeypatch):
    """Kerberos' programs on the path: the machine's, or those that were unpacked. Returns what must
    stand in krb5.conf for them."""
    # Debian keeps the KDC's tools where an ordinary user's path does not look.
    for directory in ("/usr/sbin", "/usr/local/sbin"):
        monkeypatch.setenv("PATH", directory, prepend=os.pathsep)
    if not _missing():
        return ""
    libraries = next(UNPACKED.glob("usr/lib/*-linux-gnu"), None)
    if libraries:
        for directory in (UNPACKED / "usr/bin", UNPACKED / "usr/sbin"):
            monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(libraries))
    if _missing():
        reason = f"no KDC can be made here: {', '.join(_missing())} not found"
        if os.environ.get("KDC_REQUIRED"):
            pytest.fail(f"{reason}; run tests/kdc_tools.sh")
        pytest.skip(reason)
    return f"[dbmodules]\n  db_module_dir = {libraries}/krb5/plugins/kdb\n"


@pytest.fixture
def kdc(tmp_path, monkeypatch, kerberos_tools):
    """A fresh realm; this process' environment leads every program to it."""
    root = tmp_path / "kdc"
    root.mkdir()
    realm = Kdc(root, kerberos_tools)
    monkeypatch.setenv("KRB5_CONFIG", str(root / "krb5.conf"))
    monkeypatch.setenv("KRB5_KDC_PROFILE", str(root / "kdc.conf"))
    realm.create()
    yield realm
    realm.stop()


@pytest.fixture
def breaking(kdc, tmp_path):
    """Calls breaking(lines): the option for a kadmin.local that ends after so many of them."""
    real = shutil.which("kadmin.local")
    path = tmp_path / "kadmin.local"

    def after(lines):
        path.write_text(f'#!/bin/sh\nsed -u {lines}q | {real} "$@"\n')
        path.chmod(0o755)
        return {"kadmin_path": str(path)}

    return after


@pytest.fixture
def remote(kdc, tmp_path):
    """A running kadmind, and the options that lead to it with an administrator's keytab."""
    kdc.ask("addprinc", "-randkey", "admin")
    keytab = tmp_path / "admin.keytab"
    kdc.ask("ktadd", "-norandkey", "-k", str(keytab), "admin")
    kdc.start()
    return {
        "admin_server": f"127.0.0.1:{kdc.ports['kadmin_port']}",
        "admin_principal": "admin",
        "admin_keytab": str(keytab),
    }


@pytest.fixture
def remote_by_cache(kdc, remote, tmp_path):
    """The same with a credentials cache."""
    cache = f"FILE:{tmp_path}/admin.cc"
    kdc.command(
        *("kinit", "-c", cache, "-S", "kadmin/admin", "-k", "-t", remote["admin_keytab"], "admin")
    )
    return {"admin_server": remote["admin_server"], "admin_ccache": cache}


class Authority:
    """A certificate authority for tests."""

    def __init__(self, root, name="unit CA"):
        root.mkdir()
        self.root = root
        self.certificate = root / "ca.crt"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", root / "ca.key", "-out", self.certificate, "-days", "2"),
            *("-subj", f"/CN={name}"),
        )

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    def issue(self, name, names=(), kind="ec", days=1):
        """A key and a certificate with these DNS names: (key path, certificate path)."""
        key, request, certificate = (
            self.root / f"{name}.{kind}.{suffix}" for suffix in ("key", "csr", "crt")
        )
        new = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ec" else ["rsa:2048"]
        self._openssl(
            *("req", "-newkey", *new, "-nodes", "-keyout", key, "-out", request),
            *("-subj", f"/CN={name}"),
        )
        extensions = self.root / "extensions"
        text = "basicConstraints=CA:FALSE\n"
        if names:
            # In a section of its own a value is taken whole, commas and all.
            text += "subjectAltName=@names\n[names]\n"
            text += "".join(f"DNS.{number} = {one}\n" for number, one in enumerate(names))
        extensions.write_text(text)
        self._openssl(
            *("x509", "-req", "-in", request, "-out", certificate, "-extfile", extensions),
            *("-CA", self.certificate, "-CAkey", self.root / "ca.key", "-days", days),
        )
        return key, certificate


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """The cluster's CA."""
    return Authority(tmp_path_factory.mktemp("pki") / "ca")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory):
    """Somebody else's CA."""
    return Authority(Path(tmp_path_factory.mktemp("pki")) / "stranger", "another CA")


@pytest.fixture
def playbook(tmp_path):
    """Calls playbook(plays, variables, *options): what ansible-playbook says, in all detail."""
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")

    def run(plays, variables, *options):
        (tmp_path / "play.yml").write_text(json.dumps(plays))
        (tmp_path / "variables.json").write_text(json.dumps(variables))
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                str(tmp_path / "play.yml"),
                "--inventory=localhost,",
                "--connection=local",
                f"--extra-vars=ansible_python_interpreter={sys.executable}",
                f"--extra-vars=@{tmp_path}/variables.json",
                "--diff",
                "-vvvv",
                *options,
            ],
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": COLLECTIONS,
                "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
                "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
                "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
            },
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    return run
