"""host_certificate: asks only when a new certificate is needed, and installs only a right one."""

from __future__ import annotations

import datetime
import os
import stat
import subprocess

import pytest
from ansible_collections.deitos.cluster.plugins.modules import host_certificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMES = ["worker1.example.net", "worker1", "files.example.net"]
ME = {"owner": str(os.getuid()), "group": str(os.getgid())}
DAY = datetime.timedelta(days=1)


def text(item):
    return item.public_bytes(serialization.Encoding.PEM).decode()


class Authority:
    """A CA that signs what it is asked to, or what a test wants wrong."""

    def __init__(self, name="CA", kind="rsa"):
        self.key = (
            rsa.generate_private_key(public_exponent=65537, key_size=2048)
            if kind == "rsa"
            else ec.generate_private_key(ec.SECP256R1())
        )
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (
            self.builder(self.name, self.key.public_key(), 3650)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.pem = text(self.certificate)

    def builder(self, subject, key, days, start=-1):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + start * DAY)
            .not_valid_after(now + days * DAY)
        )

    def issue(self, csr, days=700, start=-1, names=None, uses=None):
        request = x509.load_pem_x509_csr(csr.encode())
        builder = self.builder(request.subject, request.public_key(), days, start)
        for extension in request.extensions:
            value = extension.value
            if names and isinstance(value, x509.SubjectAlternativeName):
                value = x509.SubjectAlternativeName([x509.DNSName(n) for n in names])
            if uses and isinstance(value, x509.ExtendedKeyUsage):
                value = x509.ExtendedKeyUsage(uses)
            builder = builder.add_extension(value, critical=extension.critical)
        return text(builder.sign(self.key, hashes.SHA256()))


@pytest.fixture(scope="session", params=["rsa", "ec"])
def authority(request):
    return Authority(kind=request.param)


@pytest.fixture(autouse=True)
def as_this_user(monkeypatch):
    """The files that root owns belong to whoever runs the tests."""
    monkeypatch.setattr(host_certificate.atomic, "uid_of", lambda _owner: os.getuid())
    monkeypatch.setattr(host_certificate.atomic, "gid_of", lambda _group: os.getgid())


@pytest.fixture
def call(tmp_path, run_module, authority):
    def run(check=False, **parameters):
        return run_module(
            host_certificate,
            check=check,
            **{
                "directory": str(tmp_path / "pki"),
                "names": NAMES,
                "ca": authority.pem,
                "key_size": 2048,
                **ME,
                **parameters,
            },
        )

    return run


@pytest.fixture
def served(call, authority, tmp_path):
    """A host with everything in order; the directory."""
    call(certificate=authority.issue(call()["csr"]))
    return tmp_path / "pki"


def test_from_nothing_to_a_certificate(call, authority, tmp_path):
    foretold = call(check=True)
    assert foretold["changed"]
    assert foretold["needed"]
    assert not (tmp_path / "pki").exists()

    asked = call()
    assert asked["needed"]
    assert asked["reasons"] == ["there is none"]
    request = x509.load_pem_x509_csr(asked["csr"].encode())
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == NAMES
    again = call()
    assert again["csr"] == asked["csr"], "key and request are made once"
    assert not again["changed"]

    installed = call(certificate=authority.issue(asked["csr"]))
    assert installed["changed"]
    for check in (False, True):
        quiet = call(check=check)
        assert not quiet["changed"]
        assert not quiet["needed"]
        assert "csr" not in quiet
        assert quiet["not_after"] == installed["not_after"]

    pki = tmp_path / "pki"
    assert stat.S_IMODE((pki / "host.key").stat().st_mode) == 0o440
    assert (pki / "chain.crt").read_text() == (pki / "host.crt").read_text() + authority.pem
    assert (pki / "ca.crt").read_text() == authority.pem
    key = (pki / "host.key").read_text()
    assert key.splitlines()[1] not in str([foretold, asked, again, installed])


def test_openssl_finds_the_chain_good_and_seals_to_it(served):
    subprocess.run(
        ["openssl", "verify", "-purpose", "sslserver", "-CAfile", "ca.crt", "host.crt"],
        cwd=served,
        check=True,
        capture_output=True,
    )
    sealed = subprocess.run(
        ["openssl", "cms", "-encrypt", "-aes256", "-outform", "DER", "host.crt"],
        cwd=served,
        check=True,
        capture_output=True,
        input=b"keytab",
    )
    opened = subprocess.run(
        ["openssl", "cms", "-decrypt", "-inform", "DER", "-inkey", "host.key"],
        cwd=served,
        check=True,
        capture_output=True,
        input=sealed.stdout,
    )
    assert opened.stdout == b"keytab"


@pytest.mark.parametrize(
    ("issued", "says"),
    [
        ({"days": 29}, "ends in 2"),
        ({"days": -1, "start": -9}, "it ended on"),
        ({"start": 1}, "is the clock right"),
        ({"names": NAMES[:2]}, "lacks the names files.example.net"),
        ({"names": [*NAMES, "master1"]}, "no longer has: master1"),
        ({"uses": [ExtendedKeyUsageOID.SERVER_AUTH]}, "does not allow client auth"),
    ],
)
def test_a_certificate_that_does_not_serve(served, call, authority, issued, says):
    wrong = authority.issue((served / "host.csr").read_text(), **issued)
    before = (served / "host.crt").read_text()
    refused = call(certificate=wrong)
    assert refused["failed"]
    assert "cannot be used" in refused["msg"]
    assert (served / "host.crt").read_text() == before

    (served / "host.crt").write_text(wrong)
    asked = call()
    assert asked["needed"]
    assert any(says in reason for reason in asked["reasons"])
    assert (served / "host.crt").read_text() == wrong, "the old one stays until there is a new one"
    assert call(check=True)["changed"]
    done = call(certificate=authority.issue(asked["csr"]))
    assert not done["failed"]
    assert not call()["needed"]


def test_damaged_foreign_and_lost_certificates(served, call):
    path = served / "host.crt"
    good = path.read_text()
    for content, says in [
        (good[:200] + "AAAA" + good[204:], "damaged"),
        ("junk", "there is none"),
        (None, "there is none"),
    ]:
        path.unlink()
        if content is not None:
            path.write_text(content)
        asked = call()
        assert asked["needed"]
        assert says in asked["reasons"][0]
        assert "csr" in asked
        path.write_text(good)
    stranger = Authority("another CA")
    path.write_text(stranger.issue((served / "host.csr").read_text()))
    assert call()["reasons"] == ["another authority issued it"]
    namesake = Authority("CA")
    path.write_text(namesake.issue((served / "host.csr").read_text()))
    assert call()["reasons"] == ["another authority issued it"]


@pytest.mark.parametrize("content", [None, "junk", "another size", "ec"])
def test_a_lost_damaged_or_other_key_is_replaced(served, call, content):
    path = served / "host.key"
    path.unlink()
    if content == "junk":
        path.write_text("junk")
    elif content:
        key = (
            ec.generate_private_key(ec.SECP256R1())
            if content == "ec"
            else rsa.generate_private_key(public_exponent=65537, key_size=3072)
        )
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    old_request = (served / "host.csr").read_text()
    foretold = call(check=True)
    assert foretold["changed"]
    assert foretold["needed"]
    asked = call()
    assert asked["needed"]
    assert "another key" in asked["reasons"][0]
    assert asked["csr"] != old_request


def test_modes_and_issuers_are_repaired(served, call):
    (served / "host.key").chmod(0o644)
    (served / "host.crt").chmod(0o600)
    (served / "ca.crt").write_text("junk")
    (served / "chain.crt").unlink()
    result = call()
    assert not result["needed"]
    assert {os.path.basename(p) for p in result["changed_paths"]} == {
        *("host.key", "host.crt", "ca.crt", "chain.crt")
    }
    assert stat.S_IMODE((served / "host.key").stat().st_mode) == 0o440
    assert not call()["changed"]


def test_a_renamed_host_asks_anew(served, call):
    asked = call(names=["worker9.example.net"])
    assert "worker9.example.net" in asked["reasons"][0]
    names = x509.load_pem_x509_csr(asked["csr"].encode()).extensions
    assert "worker9" in str(names)


def test_keys_that_something_else_maintains(served, call, tmp_path):
    for name in ("key", "crt"):
        (tmp_path / f"site.{name}").write_bytes((served / f"host.{name}").read_bytes())
    files = {
        "private_key_file": str(tmp_path / "site.key"),
        "certificate_file": str(tmp_path / "site.crt"),
    }
    new = {"directory": str(tmp_path / "new")}
    first = call(**new, **files)
    assert first["changed"]
    assert not first["needed"]
    assert not call(**new, **files)["changed"]
    key = (tmp_path / "new/host.key").read_bytes()
    assert key == (served / "host.key").read_bytes()
    (tmp_path / "site.key").write_text("junk")
    assert "no usable" in call(**new, **files)["msg"]


def test_intermediate_authorities_are_kept_in_the_chain(call, tmp_path):
    root, middle = Authority("root"), Authority("middle")
    builder = root.builder(middle.name, middle.key.public_key(), 3000)
    crossed = text(builder.sign(root.key, hashes.SHA256()))
    csr = call(ca=root.pem)["csr"]
    leaf = middle.issue(csr)
    assert not call(ca=root.pem, certificate=leaf + crossed)["failed"]
    assert (tmp_path / "pki/chain.crt").read_text() == leaf + crossed + root.pem
    quiet = call(ca=root.pem)
    assert not quiet["needed"]
    assert not quiet["changed"]


def test_a_chain_that_ends_elsewhere_is_not_trusted(served, call):
    """The old authority's certificate is still in chain.crt when another takes its place."""
    asked = call(ca=Authority("successor").pem)
    assert asked["reasons"] == ["another authority issued it"]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"mode": "0444"}, "let others"),
        ({"ca": ""}, "no certificate of an authority"),
        ({"ca": "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----"}, "damaged"),
    ],
)
def test_what_makes_no_sense(call, parameters, says):
    assert says in call(**parameters)["msg"]
