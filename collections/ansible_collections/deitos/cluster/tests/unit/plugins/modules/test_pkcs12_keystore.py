"""pkcs12_keystore: Java reads it, it is rewritten only for a reason, and nothing secret shows."""

from __future__ import annotations

import datetime
import os
import shutil
import stat
import subprocess

import pytest
from ansible_collections.deitos.cluster.plugins.modules import pkcs12_keystore
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa


def new_key(kind="ec"):
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def new_certificate(key, name, issuer=None, issuer_key=None):
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime(2026, 1, 1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(issuer_key or key, hashes.SHA256())
    )


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


class Host:
    """A directory with key, certificate and chain, as role pki leaves them."""

    def __init__(self, directory, kind="ec"):
        self.directory = directory
        self.ca_key = new_key()
        self.ca = new_certificate(self.ca_key, "CA")
        (directory / "ca.crt").write_bytes(pem(self.ca))
        self.issue(new_key(kind))

    def issue(self, key=None):
        self.key = key or self.key
        certificate = new_certificate(self.key, "host", self.ca, self.ca_key)
        (self.directory / "host.crt").write_bytes(pem(certificate))
        (self.directory / "host.key").write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    @property
    def parameters(self):
        return {
            "path": str(self.directory / "keystore.p12"),
            "private_key": str(self.directory / "host.key"),
            "certificate": str(self.directory / "host.crt"),
            "chain": str(self.directory / "ca.crt"),
            "password_file": str(self.directory / "keystore.password"),
            "owner": str(os.getuid()),
            "group": str(os.getgid()),
        }

    @property
    def password(self):
        return (self.directory / "keystore.password").read_text()

    @property
    def keystore(self):
        return self.directory / "keystore.p12"


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_made_once_with_a_password_of_the_host(host, four_runs):
    done = four_runs(pkcs12_keystore, **host.parameters)
    assert done["changed_paths"] == [str(host.directory / "keystore.password"), str(host.keystore)]
    assert len(host.password) == 64
    assert host.password not in str(done)
    for path in (host.keystore, host.directory / "keystore.password"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o440


def reissue(host):
    host.issue()


def rekey(host):
    host.issue(new_key())


def damage(host):
    host.keystore.chmod(0o600)
    data = host.keystore.read_bytes()
    host.keystore.write_bytes(data[:100] + b"\0\0\0" + data[103:])


def truncate(host):
    host.keystore.write_bytes(b"")


def delete(host):
    host.keystore.unlink()


def other_password(host):
    (host.directory / "keystore.password").write_text("swordfish\n")


def lost_password(host):
    (host.directory / "keystore.password").unlink()


def other_chain(host):
    (host.directory / "ca.crt").write_bytes(pem(new_certificate(new_key(), "other CA")))


@pytest.mark.parametrize(
    "change",
    [reissue, rekey, damage, truncate, delete, other_password, lost_password, other_chain],
)
def test_rewritten_for_a_reason(host, run_module, four_runs, change):
    run_module(pkcs12_keystore, **host.parameters)
    change(host)
    done = four_runs(pkcs12_keystore, **host.parameters)
    assert str(host.keystore) in done["changed_paths"]
    assert host.password.strip() not in str(done)


def test_mode_is_repaired_without_rewriting(host, run_module, four_runs):
    run_module(pkcs12_keystore, **host.parameters)
    before = host.keystore.read_bytes()
    host.keystore.chmod(0o644)
    four_runs(pkcs12_keystore, **host.parameters)
    assert host.keystore.read_bytes() == before
    assert stat.S_IMODE(host.keystore.stat().st_mode) == 0o440


def test_the_leaf_may_be_in_the_chain_too(host, run_module):
    chain = (host.directory / "host.crt").read_bytes() + pem(host.ca)
    (host.directory / "chain.crt").write_bytes(chain)
    run_module(pkcs12_keystore, **host.parameters)
    parameters = {**host.parameters, "chain": str(host.directory / "chain.crt")}
    assert not run_module(pkcs12_keystore, **parameters)["changed"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("host.key", None, "does not exist"),
        ("host.key", b"junk", "no usable, unencrypted private key"),
        ("host.crt", b"", "no certificate"),
        ("host.crt", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "damaged"),
        ("host.crt", "foreign", "does not belong to the key"),
    ],
)
def test_unusable_parts(host, run_module, name, content, says):
    if content == "foreign":
        content = pem(new_certificate(new_key(), "host"))
    path = host.directory / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    foretold = run_module(pkcs12_keystore, check=True, **host.parameters)
    assert foretold["changed"]
    result = run_module(pkcs12_keystore, **host.parameters)
    assert result["failed"]
    assert says in result["msg"]
    assert not host.keystore.exists()


def test_a_certificate_that_an_earlier_task_would_renew(host, run_module):
    run_module(pkcs12_keystore, **host.parameters)
    planned = {host.parameters["certificate"]: "new"}
    assert run_module(pkcs12_keystore, check=True, planned=planned, **host.parameters)["changed"]
    assert not run_module(pkcs12_keystore, planned=planned, **host.parameters)["changed"]


def test_others_may_not_read_it(host, run_module):
    result = run_module(pkcs12_keystore, **host.parameters, mode="0444")
    assert "let others" in result["msg"]


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_openssl_and_java_read_it(tmp_path, run_module, kind):
    host = Host(tmp_path, kind)
    run_module(pkcs12_keystore, **host.parameters)
    secret = f"file:{host.directory}/keystore.password"
    shown = subprocess.run(
        ["openssl", "pkcs12", "-in", host.keystore, "-passin", secret, "-nodes", "-info"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.count("BEGIN CERTIFICATE") == 2
    assert "AES-256-CBC" in shown.stderr
    if not shutil.which("keytool"):
        pytest.skip("no JDK here; the rest is tested on hosts that have one")
    listed = subprocess.run(
        [
            *("keytool", "-list", "-v", "-keystore", host.keystore),
            *("-storepass:file", host.directory / "keystore.password"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "PrivateKeyEntry" in listed
    assert "Certificate chain length: 2" in listed
