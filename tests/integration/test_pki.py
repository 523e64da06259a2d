"""What every host is given first: users with their numbers, keys, certificates, trust."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from siterun import run_site

PKI = "/etc/deitos/pki"
HOSTS = ["kdc1", "master1", "worker1", "worker2", "edge1"]
FILES = {
    f"{PKI}/host.key": ("root", "tls", 0o440),
    f"{PKI}/keystore.p12": ("root", "tls", 0o440),
    f"{PKI}/keystore.password": ("root", "tls", 0o440),
    f"{PKI}/host.csr": ("root", "root", 0o644),
    f"{PKI}/host.crt": ("root", "root", 0o644),
    f"{PKI}/chain.crt": ("root", "root", 0o644),
    f"{PKI}/ca.crt": ("root", "root", 0o644),
    "/usr/local/libexec/deitos/daemon-digest": ("root", "root", 0o755),
}


@pytest.fixture(params=HOSTS)
def machine(cluster, request):
    return cluster.machine(request.param)


def certificates(machine, path):
    pem = machine.file(path).content
    end = b"-----END CERTIFICATE-----"
    return [x509.load_pem_x509_certificate(part + end) for part in pem.split(end)[:-1]]


def test_files_and_their_owners(machine):
    found = {path: ((file := machine.file(path)).user, file.group, file.mode) for path in FILES}
    assert found == FILES


def test_a_certificate_says_what_the_host_is(cluster, machine):
    leaf, authority = certificates(machine, f"{PKI}/chain.crt")
    short = machine.check_output("hostname -s")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {short, f"{short}.{cluster.domain}"}
    uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert isinstance(leaf.public_key(), rsa.RSAPublicKey)
    assert leaf.public_key().key_size >= 3072
    left = leaf.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert left > datetime.timedelta(days=30)
    assert leaf.not_valid_after_utc < authority.not_valid_after_utc
    leaf.verify_directly_issued_by(authority)


def test_every_host_has_the_one_authority_and_it_signs_hosts_only(cluster, machine):
    (authority,) = certificates(machine, f"{PKI}/ca.crt")
    assert certificates(cluster.first("ca"), "/etc/deitos/ca/ca.crt") == [authority]
    limits = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert limits.critical
    assert (limits.value.ca, limits.value.path_length) == (True, 0)


def test_the_authoritys_key_is_on_one_host_and_for_root(cluster, machine):
    key = machine.file("/etc/deitos/ca/ca.key")
    home = machine.file("/etc/deitos/ca")
    if machine.check_output("hostname -s") in cluster.hosts("ca"):
        assert (key.user, key.mode) == ("root", 0o400)
        assert (home.user, home.mode) == ("root", 0o700)
    else:
        assert not home.exists


def test_the_system_and_java_trust_the_authority(machine):
    machine.run_expect([0], f"openssl verify -CApath /etc/ssl/certs {PKI}/host.crt")
    listed = machine.check_output("keytool -list -v -cacerts -storepass changeit 2>/dev/null")
    print_of = f"openssl x509 -in {PKI}/ca.crt -noout -fingerprint -sha256 | cut -d= -f2"
    assert machine.check_output(print_of) in listed


def test_java_opens_the_keystore_with_the_hosts_own_password(machine):
    listed = machine.check_output(
        f"keytool -list -v -keystore {PKI}/keystore.p12 -storepass:file {PKI}/keystore.password"
    )
    leaf = f"openssl x509 -in {PKI}/host.crt -noout -fingerprint -sha256 | cut -d= -f2"
    assert "PrivateKeyEntry" in listed
    assert machine.check_output(leaf) in listed


def test_no_two_hosts_share_a_key_or_a_password(cluster):
    for name in ("host.key", "keystore.password"):
        found = {cluster.machine(host).file(f"{PKI}/{name}").sha256sum for host in HOSTS}
        assert len(found) == len(HOSTS)


def test_who_may_read_the_key(cluster):
    edge = cluster.first("edge")
    for user, readable in {"hdfs": True, "yarn": True, "datanode": False, "nobody": False}.items():
        done = edge.run(f"runuser -u {user} -- head -c1 {PKI}/host.key")
        assert (done.rc == 0) == readable, user


def test_service_users_have_one_number_everywhere(cluster):
    wanted = {"hdfs": 801, "yarn": 802, "mapred": 803, "datanode": 808, "nodemanager": 809}
    for host in HOSTS:
        machine = cluster.machine(host)
        for name, number in wanted.items():
            user = machine.user(name)
            assert (user.uid, user.gid, user.shell) == (number, number, "/usr/sbin/nologin")
        # Root on a worker must not become hdfs to HDFS, nor its own daemon's user a key's reader.
        assert machine.user("datanode").groups == ["datanode"]


@pytest.fixture
def base(cluster):
    """Runs the playbook of the hosts' base on the edge alone."""
    edge = cluster.hosts("edge")[0]

    def run(*options):
        done = run_site(f"--limit {edge}", *options, playbook="playbooks/base.yml")
        assert (done.status, done.failed) == ("successful", [])
        return [task for _host, task in done.changed]

    return run


def test_damage_is_shown_and_repaired_on_one_host_alone(cluster, base):
    edge = cluster.first("edge")
    before = edge.file(f"{PKI}/host.crt").content_string
    edge.check_output(f"rm {PKI}/host.crt && chmod 0644 {PKI}/host.key")
    edge.check_output("rm /usr/local/share/ca-certificates/deitos-ca.crt && update-ca-certificates")
    edge.check_output("gpasswd -d mapred tls")
    foretold = base("--check", "--diff")
    # Users, key and certificate, trust, keystore.
    assert len(foretold) == 4
    assert not edge.file(f"{PKI}/host.crt").exists
    repaired = base()
    assert set(foretold) <= set(repaired)
    assert edge.file(f"{PKI}/host.crt").content_string != before
    assert base("--check") == []


def test_another_hosts_certificate_is_as_good_as_none(cluster, base):
    edge = cluster.first("edge")
    foreign = cluster.first("kdc").file(f"{PKI}/host.crt").content_string
    edge.check_output(f"printf %s '{foreign}' > {PKI}/host.crt")
    base()
    assert edge.file(f"{PKI}/host.crt").content_string != foreign
    edge.run_expect([0], f"openssl verify -CAfile {PKI}/ca.crt {PKI}/host.crt")


def test_a_certificate_is_renewed_before_it_ends(cluster, base):
    edge = cluster.first("edge")
    (before,) = certificates(edge, f"{PKI}/host.crt")
    key = edge.file(f"{PKI}/host.key").sha256sum
    base("-e pki_renew_days=731", "-e pki_host_days=740")
    (after,) = certificates(edge, f"{PKI}/host.crt")
    assert after.not_valid_after_utc > before.not_valid_after_utc
    assert edge.file(f"{PKI}/host.key").sha256sum == key
