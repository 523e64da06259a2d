"""kerberos_keytab, all three steps against a real KDC: hosts get their keys, and no others'."""

from __future__ import annotations

import base64
import json
import os
import re
import stat

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import keytab as codec
from ansible_collections.deitos.cluster.plugins.module_utils import sealed as seals
from ansible_collections.deitos.cluster.plugins.module_utils.kadmin import Principal
from ansible_collections.deitos.cluster.plugins.modules import kerberos_keytab, kerberos_principal

ME = {"owner": str(os.getuid()), "group": str(os.getgid())}
AES = ["aes128-cts-hmac-sha1-96", "aes256-cts-hmac-sha1-96", "aes256-cts-hmac-sha384-192"]


class Host:
    """A host with its key and certificate, and a directory for its keytabs."""

    def __init__(self, run, authority, root, name="h1.example"):
        self.run, self.name, self.root = run, name, root
        root.mkdir()
        self.key, self.certificate = authority.issue(name, [name, name.split(".")[0]])
        self.pki = {"host_key": str(self.key), "host_certificate": str(self.certificate)}
        self.ca_path = str(authority.certificate)
        # How kadmind is reached; the database itself when empty.
        self.admin = {}
        self.keytabs = [
            self.keytab("krb5.keytab", f"host/{name}"),
            self.keytab("hdfs.keytab", f"dn/{name}", f"HTTP/{name}"),
            self.keytab("web.keytab", f"HTTP/{name}"),
        ]

    def keytab(self, name, *principals, **options):
        """One item of the option keytabs."""
        path = str(self.root / name)
        return {"path": path, "principals": list(principals), **ME, **options}

    @property
    def principals(self):
        return sorted({name for one in self.keytabs for name in one["principals"]})

    def path(self, name):
        return self.root / name

    def report(self, **options):
        done = self.run(
            kerberos_keytab, state="report", keytabs=self.keytabs, **self.pki, **options
        )
        assert not done["failed"], done["msg"]
        assert not done["changed"]
        return done

    def request(self, **changes):
        """The item of the option hosts for this host as it is."""
        report = self.report()
        request = {
            "name": self.name,
            "certificate": report["certificate"],
            "fingerprints": report["fingerprints"],
            "keytabs": self.keytabs,
        }
        return request | changes

    def issue(self, check=False, **changes):
        done = self.run(
            kerberos_keytab,
            check=check,
            state="issue",
            hosts=[self.request(**changes)],
            ca_path=self.ca_path,
            **self.admin,
        )
        assert not done["changed"]
        return done

    def present(self, sealed=None, check=False):
        return self.run(
            kerberos_keytab, check=check, keytabs=self.keytabs, sealed=sealed, **self.pki
        )

    def converge(self, check=False):
        """All three steps: (what issue said, what present said)."""
        issued = self.issue(check=check)
        assert not issued["failed"], issued["msg"]
        done = self.present(issued["sealed"].get(self.name), check=check)
        assert not done["failed"], done["msg"]
        return issued, done

    def four_runs(self):
        """Check, run, run again, check again: (what issue said, what present said) in the run."""
        foretold = self.converge(check=True)[1]
        issued, done = self.converge()
        assert changed(foretold) == changed(done)
        assert foretold["diff"] == done["diff"]
        for check in (False, True):
            repeated, again = self.converge(check=check)
            assert repeated["sealed"] == {} and repeated["differences"] == []
            assert not again["changed"]
        return issued, done

    def entries(self, name):
        return codec.decode(self.path(name).read_bytes())


@pytest.fixture
def host(kdc, run_module, authority, tmp_path):
    """A host whose principals exist, and that has no keytab yet."""
    one = Host(run_module, authority, tmp_path / "h1")
    done = run_module(kerberos_principal, names=one.principals)
    assert not done["failed"]
    return one


def changed(done):
    return {os.path.basename(one["name"]): one["actions"] for one in done["changed_keytabs"]}


# --- the normal course ---


def test_four_runs(host, kdc):
    host.converge(check=True)
    assert os.listdir(host.root) == []
    assert changed(host.four_runs()[1]) == {
        name: ["write"] for name in ("krb5.keytab", "hdfs.keytab", "web.keytab")
    }
    kdc.start()
    for item in host.keytabs:
        for principal in item["principals"]:
            assert kdc.login(principal, keytab=item["path"]) == ""
        assert stat.S_IMODE(os.stat(item["path"]).st_mode) == 0o400


def test_each_file_holds_exactly_its_principals(host):
    host.converge()
    assert {one.principal.full for one in host.entries("hdfs.keytab")} == {
        "dn/h1.example@UNIT.TEST",
        "HTTP/h1.example@UNIT.TEST",
    }
    # What several keytabs share is the same key.
    shared = {one for one in host.entries("hdfs.keytab") if one.principal.short.startswith("HTTP")}
    assert shared == set(host.entries("web.keytab"))
    assert not [n for n in os.listdir(host.root) if n.endswith(".tmp")]


def test_no_key_is_changed(host, kdc):
    host.converge()
    host.path("krb5.keytab").unlink()
    host.converge()
    assert set(re.findall(r"\nKey: vno (\d+)", kdc.ask("getprinc", "host/h1.example"))) == {"1"}


def test_no_key_is_seen_on_the_way(host):
    report, issued = host.report(), host.issue()
    done = host.present(issued["sealed"][host.name])
    seen = json.dumps([report, issued, host.report(), done])
    message = base64.b64decode(issued["sealed"][host.name])
    for item in host.keytabs:
        for entry in host.entries(os.path.basename(item["path"])):
            assert entry.key not in message
            for form in (entry.key.hex(), base64.b64encode(entry.key).decode().rstrip("=")):
                assert form not in seen
    assert sorted(report["fingerprints"]) == []


def test_a_report_tells_what_there_is(host):
    host.converge()
    report = host.report()
    found = report["fingerprints"][str(host.path("krb5.keytab"))]
    assert [one.rpartition(" ")[0] for one in found] == [
        f"host/h1.example@UNIT.TEST version 1 {name}" for name in AES
    ]
    assert report["certificate"] == host.certificate.read_text()


def test_a_report_tells_which_files_need_a_repair(host):
    everything = [one["path"] for one in host.keytabs]
    assert host.report()["unfit"] == everything
    host.converge()
    assert host.report()["unfit"] == []
    names = "krb5.keytab", "hdfs.keytab", "web.keytab"
    open_to_all, link, foreign = (host.path(name) for name in names)
    open_to_all.chmod(0o444)
    link.rename(host.path("elsewhere"))
    link.symlink_to(host.path("elsewhere"))
    foreign.write_bytes(open_to_all.read_bytes())
    assert host.report()["unfit"] == everything
    host.converge()
    assert host.report()["unfit"] == []


# --- drift ---


@pytest.mark.parametrize(
    ("harm", "action", "reason"),
    [
        (lambda path: path.unlink(), ["write"], "it is missing"),
        (lambda path: path.write_bytes(b""), ["write"], "it is damaged"),
        (lambda path: path.write_bytes(b"\5\2rubbish"), ["write"], "it is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), ["write"], "it is damaged"),
        (lambda path: path.write_bytes(b"\5\2"), ["write"], "it is damaged"),
        (lambda path: path.chmod(0o644), ["mode"], None),
    ],
)
def test_exactly_the_drift_is_repaired(host, harm, action, reason):
    host.converge()
    good = host.entries("krb5.keytab")
    harm(host.path("krb5.keytab"))
    issued, done = host.four_runs()
    assert changed(done)["krb5.keytab"][:1] == action
    assert set(changed(done)) == {"krb5.keytab"}
    assert [one["reason"] for one in issued["differences"]] == [reason] * bool(reason)
    assert host.entries("krb5.keytab") == good
    assert stat.S_IMODE(host.path("krb5.keytab").stat().st_mode) == 0o400


def other_entry(name="evil/x", kvno=1, key=b"k" * 32):
    return codec.Entry(Principal.parse(name, "UNIT.TEST"), kvno, 18, key)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda entries: entries[1:], r"it lacks host/h1.example@UNIT.TEST version 1 aes256"),
        (lambda entries: [*entries, other_entry()], r"it has evil/x@UNIT.TEST version 1"),
        (
            lambda entries: [*entries, other_entry("host/h1.example", 7)],
            r"it has host/h1.example@UNIT.TEST version 7",
        ),
        (
            lambda entries: [*entries[1:], other_entry("host/h1.example", 1)],
            r"it lacks host/h1.example@UNIT.TEST version 1",
        ),
    ],
)
def test_wrong_entries_are_repaired(host, change, reason):
    host.converge()
    good = set(host.entries("krb5.keytab"))
    path = host.path("krb5.keytab")
    path.chmod(0o600)
    path.write_bytes(codec.encode(change(host.entries("krb5.keytab"))))
    path.chmod(0o400)
    issued, done = host.four_runs()
    assert re.match(reason, issued["differences"][0]["reason"])
    assert changed(done) == {"krb5.keytab": ["write"]}
    assert set(host.entries("krb5.keytab")) == good


def test_the_same_keys_in_another_order_are_no_drift(host):
    host.converge()
    path = host.path("hdfs.keytab")
    path.chmod(0o600)
    path.write_bytes(codec.encode(reversed(host.entries("hdfs.keytab"))))
    path.chmod(0o400)
    issued, done = host.four_runs()
    assert issued["sealed"] == {}
    assert not done["changed"]


def test_new_keys_arrive_and_old_ones_stay_as_long_as_the_kdc_has_them(host, run_module):
    host.converge()
    run_module(kerberos_principal, name="host/h1.example", rotate=True)
    issued, done = host.four_runs()
    assert issued["differences"][0]["reason"].startswith(
        "it lacks host/h1.example@UNIT.TEST version 2"
    )
    assert changed(done) == {"krb5.keytab": ["write"]}
    assert {one.kvno for one in host.entries("krb5.keytab")} == {1, 2}
    run_module(kerberos_principal, name="host/h1.example", purge_old_keys=True)
    assert changed(host.four_runs()[1]) == {"krb5.keytab": ["write"]}
    assert {one.kvno for one in host.entries("krb5.keytab")} == {2}


def test_a_host_can_keep_old_keys_itself(host, run_module):
    host.keytabs[0]["keep_old"] = True
    host.converge()
    run_module(kerberos_principal, name="host/h1.example", rotate=True, keep_old_keys=False)
    assert changed(host.four_runs()[1]) == {"krb5.keytab": ["write"]}
    assert {one.kvno for one in host.entries("krb5.keytab")} == {1, 2}
    assert not host.converge()[1]["changed"]
    # But not those that are newer than the KDC's.
    path = host.path("krb5.keytab")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + codec.encode([other_entry("host/h1.example", 9)])[2:])
    assert "version 9" in host.converge()[0]["differences"][0]["reason"]
    assert {one.kvno for one in host.entries("krb5.keytab")} == {1, 2}


def test_a_principal_is_added_and_taken_away(host, run_module):
    host.converge()
    run_module(kerberos_principal, name="HTTP/alias.example")
    host.keytabs[2]["principals"].append("HTTP/alias.example")
    assert changed(host.four_runs()[1]) == {"web.keytab": ["write"]}
    host.keytabs[2]["principals"].remove("HTTP/h1.example")
    assert changed(host.four_runs()[1]) == {"web.keytab": ["write"]}
    assert {one.principal.short for one in host.entries("web.keytab")} == {"HTTP/alias.example"}


def test_a_link_is_replaced_not_followed(host, tmp_path):
    target = tmp_path / "target"
    target.write_text("not a keytab")
    host.path("krb5.keytab").symlink_to(target)
    host.converge()
    assert target.read_text() == "not a keytab"
    assert not host.path("krb5.keytab").is_symlink()


def test_a_link_to_a_right_keytab_is_replaced_too(host, tmp_path):
    host.converge()
    path, target = host.path("krb5.keytab"), tmp_path / "target"
    path.rename(target)
    target.chmod(0o644)
    path.symlink_to(target)
    assert changed(host.four_runs()[1]) == {"krb5.keytab": ["write"]}
    assert not path.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_absent(host, run_module):
    host.converge()
    item = [{"path": host.keytabs[0]["path"]}]
    for check, first in ((True, True), (False, True), (False, False), (True, False)):
        done = run_module(kerberos_keytab, check=check, state="absent", keytabs=item)
        assert done["changed"] == first
    assert not host.path("krb5.keytab").exists()
    assert host.path("hdfs.keytab").exists()


# --- many hosts ---


def test_only_hosts_that_differ_get_a_message(kdc, run_module, authority, tmp_path):
    hosts = [Host(run_module, authority, tmp_path / f"w{n}", f"w{n}.example") for n in range(4)]
    run_module(kerberos_principal, names=[name for host in hosts for name in host.principals])

    def issue():
        requests = [host.request() for host in hosts]
        return run_module(
            kerberos_keytab, state="issue", hosts=requests, ca_path=str(authority.certificate)
        )

    first = issue()
    assert sorted(first["sealed"]) == [host.name for host in hosts]
    for host in hosts:
        assert host.present(first["sealed"][host.name])["changed"]
    hosts[2].path("web.keytab").unlink()
    second = issue()
    assert list(second["sealed"]) == ["w2.example"]
    # It holds what differs and nothing else.
    message = json.loads(
        seals.unseal(second["sealed"]["w2.example"], hosts[2].key, hosts[2].certificate)
    )
    assert list(message["keytabs"]) == [str(hosts[2].path("web.keytab"))]
    # Another host cannot use it.
    refused = hosts[1].present(second["sealed"]["w2.example"])
    assert refused["failed"]
    assert "cannot be opened" in refused["msg"]


# --- over the network ---


@pytest.mark.parametrize("way", ["remote", "remote_by_cache"])
def test_issuing_over_the_network(host, kdc, way, request, tmp_path, monkeypatch):
    host.admin = request.getfixturevalue(way)
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/callers")
    assert set(changed(host.four_runs()[1])) == {"krb5.keytab", "hdfs.keytab", "web.keytab"}
    # They are the keys that the database has had all along.
    host.admin = {}
    assert host.issue()["differences"] == []
    assert set(re.findall(r"\nKey: vno (\d+)", kdc.ask("getprinc", "host/h1.example"))) == {"1"}
    assert kdc.login("host/h1.example", keytab=host.path("krb5.keytab")) == ""
    assert not (tmp_path / "callers").exists()


def test_reading_and_extracting_is_all_that_issuing_needs(host, kdc, remote, run_module):
    kdc.grant(f"admin@{kdc.realm} ie")
    host.admin = remote
    assert set(changed(host.converge()[1])) == {"krb5.keytab", "hdfs.keytab", "web.keytab"}
    assert "privilege" in run_module(kerberos_principal, name="other/x", **remote)["msg"]


def test_issuing_needs_the_right_to_extract_keys(host, kdc, remote):
    host.admin = remote
    assert host.issue()["sealed"]
    # All rights but this one, which '*' does not include.
    kdc.grant(f"admin@{kdc.realm} *")
    done = host.issue()
    assert done["failed"] and done["sealed"] == {}
    assert "krb5.keytab: host/h1.example@UNIT.TEST: Operation requires" in done["msg"]
    assert "add 'e' to the administrator's line in the KDC's kadm5.acl" in done["msg"]
    assert "changing" not in done["msg"]
    # Nor are keys changed to get at them.
    assert set(re.findall(r"\nKey: vno (\d+)", kdc.ask("getprinc", "host/h1.example"))) == {"1"}


def test_locked_keys_stay_where_they_are(host, kdc, remote, run_module):
    run_module(kerberos_principal, name="host/h1.example", flags={"lockdown_keys": True})
    host.keytabs = host.keytabs[:2]
    host.admin = remote
    done = host.issue()
    assert done["failed"] and done["sealed"] == {}
    assert "lockdown_keys" in done["msg"]
    run_module(kerberos_principal, name="host/h1.example", flags={"lockdown_keys": False})
    assert not host.issue()["failed"]


# --- what must be refused ---


def test_a_certificate_of_another_host_gets_nothing(host, authority):
    _key, other = authority.issue("h2.example", ["h2.example"])
    done = host.issue(certificate=other.read_text())
    assert done["failed"]
    assert "does not have it as a DNS name" in done["msg"]
    assert done["sealed"] == {}


def test_a_certificate_of_another_ca_gets_nothing(host, stranger):
    _key, own = stranger.issue("h1.example", ["h1.example"])
    done = host.issue(certificate=own.read_text())
    assert "host 'h1.example': the certificate given for h1.example is not good" in done["msg"]
    assert done["sealed"] == {}


def test_one_bad_host_does_not_hide_the_others(kdc, run_module, authority, tmp_path):
    hosts = [Host(run_module, authority, tmp_path / f"w{n}", f"w{n}.example") for n in range(3)]
    run_module(kerberos_principal, names=[name for host in hosts for name in host.principals])
    requests = [host.request() for host in hosts]
    requests[0]["certificate"] = ""
    requests[1]["fingerprints"] = {hosts[1].keytabs[0]["path"]: ["nonsense"]}
    requests.append(dict(requests[2]))
    done = run_module(
        kerberos_keytab, state="issue", hosts=requests, ca_path=str(authority.certificate)
    )
    assert done["failed"]
    assert list(done["sealed"]) == ["w2.example"]
    assert {(one["name"], one["msg"]) for one in done["errors"]} == {
        ("w0.example", "w0.example gave no PEM certificate; has the host got one yet?"),
        ("w1.example", "its fingerprints are not what state 'report' returns"),
        ("w2.example", "the host is listed more than once"),
    }


def test_a_principal_that_is_not_there(host, kdc):
    kdc.ask("delprinc", "-force", "dn/h1.example")
    done = host.issue()
    assert done["failed"]
    assert "hdfs.keytab: dn/h1.example@UNIT.TEST is not in the KDC" in done["msg"]
    # In check mode the task that would make it has not made it.
    foretold = host.issue(check=True)
    assert not foretold["failed"]
    assert foretold["differences"][1]["reason"] == "dn/h1.example@UNIT.TEST is not in the KDC"
    planned = host.present(foretold["sealed"].get(host.name), check=True)
    assert planned["changed"]
    assert set(changed(planned)) == {"krb5.keytab", "hdfs.keytab", "web.keytab"}


@pytest.mark.parametrize("state", ["missing", "of other principals"])
def test_nothing_sealed_for_a_keytab_that_needs_it(host, state):
    if state != "missing":
        host.converge()
        host.keytabs[0]["principals"] = ["host/other.example"]
    done = host.present()
    assert done["failed"]
    assert "report this host's keytabs and issue them on the KDC first" in done["msg"]
    assert host.present(check=True)["changed"]


def test_a_message_must_fit_the_request(host):
    sealed = host.issue()["sealed"][host.name]
    first, *rest = host.keytabs
    host.keytabs = rest
    done = host.present(sealed)
    assert "krb5.keytab': it came sealed but is not one of the keytabs" in done["msg"]
    assert not host.path("krb5.keytab").exists()
    host.keytabs = [dict(first, principals=["host/h1.example", "nn/h1.example"])]
    done = host.present(sealed)
    assert "is not of the principals it should hold" in done["msg"]
    assert not host.path("krb5.keytab").exists()


@pytest.mark.parametrize(
    "message", [b"{}", b"[]", b"null", b"\xff", b'{"keytabs": []}', b'{"keytabs": {"/x": "!"}}']
)
def test_a_message_of_another_make(host, message):
    with seals.Sealer(host.ca_path) as sealer:
        sealer.take({host.name: host.certificate.read_text()})
        sealed = sealer.seal(host.name, message)
    done = host.present(sealed)
    assert done["failed"]
    assert "not what state 'issue' makes" in done["msg"]


def test_a_missing_directory_or_certificate_is_told(host, tmp_path, run_module):
    host.keytabs[0]["path"] = str(tmp_path / "nowhere/krb5.keytab")
    done = host.present(host.issue()["sealed"][host.name])
    assert f"its directory {tmp_path}/nowhere does not exist" in done["msg"]
    assert set(changed(done)) == {"hdfs.keytab", "web.keytab"}
    host.pki["host_certificate"] = str(tmp_path / "none.crt")
    done = run_module(kerberos_keytab, state="report", keytabs=host.keytabs, **host.pki)
    assert "none.crt cannot be read" in done["msg"]


def test_an_unknown_owner_is_told(host):
    host.keytabs[0]["owner"] = "nobody-has-this-name"
    done = host.present(host.issue()["sealed"][host.name])
    assert "no user 'nobody-has-this-name'" in done["msg"]
    assert not host.path("krb5.keytab").exists()


def test_nothing_is_left_in_temporary_directories(host, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(codec.tempfile, "tempdir", None)
    (tmp_path / "tmp").mkdir()
    before = set(os.listdir("/dev/shm"))
    host.converge()
    host.issue(certificate="none")
    assert os.listdir(tmp_path / "tmp") == []
    assert not [name for name in set(os.listdir("/dev/shm")) - before if "deitos" in name]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"state": "issue"},
        {"state": "report"},
        {"state": "issue", "hosts": [{"name": "x"}]},
        {"keytabs": [{"principals": ["a"]}]},
    ],
)
def test_options_that_do_not_fit(run_module, parameters):
    assert run_module(kerberos_keytab, **parameters)["failed"]
