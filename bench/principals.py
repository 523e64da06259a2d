#!/usr/bin/env python3
"""Time 5,000 principals with keytabs, against one bare kadmin.local that does the same work.

Both work on private realms in a temporary directory, with the tools of Debian's krb5-kdc and
krb5-admin-server, installed or as tests/kdc_tools.sh unpacks them; no service is started. The
modules run as Ansible runs them on a host, each in a Python process of its own. The bare batch
creates the principals and writes each host's keytab; the modules do that, and seal each keytab to
its host's certificate as well.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COLLECTIONS = Path(__file__).resolve().parents[1] / "collections"
sys.path.insert(0, str(COLLECTIONS))

from ansible_collections.deitos.cluster.plugins.module_utils import (  # noqa: E402
    keytab as codec,
)
from ansible_collections.deitos.cluster.plugins.module_utils import sealed  # noqa: E402

MODULES = "ansible_collections.deitos.cluster.plugins.modules"
REALM = "BENCH.TEST"
DOMAIN = "bench.test"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
UNPACKED = CACHE / "deitos-cluster/kdc-tools"
KRB5_CONF = """\
[libdefaults]
  default_realm = {realm}
  dns_lookup_kdc = false
  rdns = false
[dbmodules]
{dbmodules}
"""
KDC_CONF = """\
[realms]
  {realm} = {{
    database_name = {root}/principal
    key_stash_file = {root}/stash
    supported_enctypes = aes256-sha2:normal aes256-cts:normal aes128-cts:normal
  }}
"""


def run(*command, data=""):
    """Run a program with something on its standard input: (its output, seconds taken)."""
    started = time.monotonic()
    done = subprocess.run(command, input=data, check=True, capture_output=True, text=True)
    return done.stdout, time.monotonic() - started


def expect(condition, message):
    """A benchmark of work that was not done tells nothing."""
    if not condition:
        sys.exit(message)


def module(name, **arguments):
    """Run a module as on a host: (its result, seconds taken)."""
    out, seconds = run(
        *(sys.executable, "-m", f"{MODULES}.{name}"),
        data=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
    )
    return json.loads(out), seconds


def realm(root):
    """A fresh realm; the environment leads there."""
    root.mkdir()
    libraries = os.environ.get("LD_LIBRARY_PATH")
    dbmodules = f"  db_module_dir = {libraries}/krb5/plugins/kdb" if libraries else ""
    values = {"realm": REALM, "root": root, "dbmodules": dbmodules}
    (root / "krb5.conf").write_text(KRB5_CONF.format(**values))
    (root / "kdc.conf").write_text(KDC_CONF.format(**values))
    os.environ["KRB5_CONFIG"] = str(root / "krb5.conf")
    os.environ["KRB5_KDC_PROFILE"] = str(root / "kdc.conf")
    run("kdb5_util", "create", "-s", "-r", REALM, data="bench\nbench\n")


def pki(root, hosts):
    """A CA, and certificates for all hosts (of one key: making keys is not what is measured)."""
    root.mkdir()
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run(
        *("openssl", "req", "-x509", *key, "-days", "2", "-subj", "/CN=bench"),
        *("-keyout", str(root / "ca.key"), "-out", str(root / "ca.crt")),
    )
    run(
        *("openssl", "req", *key, "-subj", "/CN=host"),
        *("-keyout", str(root / "host.key"), "-out", str(root / "host.csr")),
    )
    certificates = {}
    for host in hosts:
        (root / "san").write_text(f"subjectAltName=DNS:{host}\n")
        certificates[host], _seconds = run(
            *("openssl", "x509", "-req", "-in", str(root / "host.csr"), "-days", "2"),
            *("-CA", str(root / "ca.crt"), "-CAkey", str(root / "ca.key")),
            *("-extfile", str(root / "san")),
        )
    return certificates


def bare(root, hosts):
    """Seconds of one kadmin.local fed with all the commands."""
    realm(root / "bare")
    # Where the module takes keys out, too: a disk would make the batch slower, not the module.
    keytabs = Path(codec.private_directory())
    lines = [f"addprinc -randkey {name}" for names in hosts.values() for name in names]
    lines += [
        f"ktadd -q -norandkey -k {keytabs}/{host} {name}"
        for host, names in hosts.items()
        for name in names
    ]
    _out, seconds = run("kadmin.local", data="\n".join(lines) + "\n")
    written = sum(len(codec.decode(path.read_bytes())) for path in keytabs.iterdir())
    shutil.rmtree(keytabs)
    expect(written == 3 * sum(map(len, hosts.values())), "the bare batch did not do its work")
    return seconds


def modules(root, hosts, certificates):
    """Seconds of (principals, keytabs) at first, and again with nothing to do."""
    realm(root / "modules")
    names = [name for names in hosts.values() for name in names]
    requests = [
        {
            "name": host,
            "certificate": certificates[host],
            "fingerprints": {},
            "keytabs": [{"path": "/etc/security/keytabs/bench.keytab", "principals": names}],
        }
        for host, names in hosts.items()
    ]
    ca_path = str(root / "pki/ca.crt")
    done, first = module("kerberos_principal", names=names)
    expect(len(done["changed_principals"]) == len(names), "not all principals were made")
    done, issue = module("kerberos_keytab", state="issue", hosts=requests, ca_path=ca_path)
    expect(len(done["sealed"]) == len(hosts), "not all hosts got their keytabs")
    leaf = root / "leaf.crt"
    for request in requests:
        leaf.write_text(request["certificate"])
        message = sealed.unseal(
            done["sealed"][request["name"]], str(root / "pki/host.key"), str(leaf)
        )
        request["fingerprints"] = {
            path: codec.fingerprints(codec.decode(sealed.base64.b64decode(data)))
            for path, data in json.loads(message)["keytabs"].items()
        }
    done, again = module("kerberos_principal", names=names)
    expect(not done["changed"], "the second run changed principals")
    done, compare = module("kerberos_keytab", state="issue", hosts=requests, ca_path=ca_path)
    expect(done["sealed"] == {}, "the second run sealed keytabs")
    return first, issue, again, compare


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--principals", type=int, default=5000)
    parser.add_argument("--hosts", type=int, default=50, help="how many share them")
    options = parser.parse_args()
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    os.environ["PYTHONPATH"] = str(COLLECTIONS)
    os.environ.pop("LD_LIBRARY_PATH", None)
    libraries = next(UNPACKED.glob("usr/lib/*-linux-gnu"), None)
    if not shutil.which("kadmin.local") and libraries:
        os.environ["PATH"] += os.pathsep + str(UNPACKED / "usr/sbin")
        os.environ["LD_LIBRARY_PATH"] = str(libraries)
    if not shutil.which("kadmin.local") or not shutil.which("kdb5_util"):
        sys.exit("kadmin.local and kdb5_util are not here: run tests/kdc_tools.sh")
    each = options.principals // options.hosts
    hosts = {
        f"h{number}.{DOMAIN}": [f"svc{one}/h{number}.{DOMAIN}" for one in range(each)]
        for number in range(options.hosts)
    }
    with tempfile.TemporaryDirectory(prefix="deitos-bench-") as directory:
        root = Path(directory)
        certificates = pki(root / "pki", hosts)
        batch = bare(root, hosts)
        first, issue, again, compare = modules(root, hosts, certificates)
    count = each * options.hosts
    print(f"{count} principals, keytabs of {options.hosts} hosts")
    print(f"bare kadmin.local batch     {batch:8.2f} s")
    print(f"first: principals           {first:8.2f} s")
    print(f"first: keytabs, sealed      {issue:8.2f} s")
    print(f"no-op: principals           {again:8.2f} s")
    print(f"no-op: keytabs compared     {compare:8.2f} s")
    print(f"first, both                 {first + issue:8.2f} s")
    print(f"no-op, both                 {again + compare:8.2f} s")
    print(f"ratio first/bare batch      {(first + issue) / batch:8.2f}")


if __name__ == "__main__":
    main()
