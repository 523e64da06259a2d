"""Only the host that a certificate names can open what was sealed, and only its CA can name it."""

from __future__ import annotations

import base64
import os

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import sealed
from ansible_collections.deitos.cluster.plugins.module_utils.sealed import SealError

NAME = "h1.unit.example"
DATA = bytes(range(256)) * 40


def seal(authority, pem, name=NAME):
    with sealed.Sealer(str(authority.certificate)) as sealer:
        sealer.take({name: pem})
        return sealer.seal(name, DATA)


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_the_host_opens_what_was_sealed_for_it(authority, kind):
    key, certificate = authority.issue(NAME, [NAME], kind)
    message = seal(authority, certificate.read_text())
    assert sealed.unseal(message, str(key), str(certificate)) == DATA
    assert DATA[:64] not in base64.b64decode(message)


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_no_other_key_opens_it(authority, kind):
    _key, certificate = authority.issue(NAME, [NAME], kind)
    key, own = authority.issue("h2.unit.example", ["h2.unit.example"], kind)
    message = seal(authority, certificate.read_text())
    for paper in (own, certificate):
        with pytest.raises(SealError, match="cannot be opened"):
            sealed.unseal(message, str(key), str(paper))


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_changed_message_does_not_open(authority, kind):
    key, certificate = authority.issue(NAME, [NAME], kind)
    message = bytearray(base64.b64decode(seal(authority, certificate.read_text())))
    message[-200] ^= 1
    with pytest.raises(SealError, match="cannot be opened"):
        sealed.unseal(base64.b64encode(message), str(key), str(certificate))


def test_what_is_not_a_message_is_said(authority, tmp_path):
    key, certificate = authority.issue(NAME, [NAME])
    with pytest.raises(SealError, match="not base64"):
        sealed.unseal("!!", str(key), str(certificate))
    with pytest.raises(SealError, match="cannot be opened"):
        sealed.unseal(base64.b64encode(b"hello"), str(key), str(certificate))
    with pytest.raises(SealError, match=r"no\.key cannot be read"):
        sealed.unseal("aGk=", str(tmp_path / "no.key"), str(certificate))


def test_good_certificates(authority):
    _key, certificate = authority.issue(NAME, [NAME, "h1"])
    pem = certificate.read_text()
    assert seal(authority, pem)
    assert seal(authority, "text before\n" + pem + authority.certificate.read_text())
    assert seal(authority, pem, "h1")
    assert seal(authority, pem, "H1.Unit.Example")


@pytest.mark.parametrize(
    "names",
    [
        ["h2.unit.example"],
        ["*.unit.example"],
        [],  # the common name is no name
        ["x" + NAME],
        [NAME + ".evil"],
        [f"evil.example, DNS:{NAME}"],
    ],
)
def test_a_certificate_of_another_name_is_refused(authority, names):
    _key, certificate = authority.issue(NAME, names)
    with pytest.raises(SealError, match=rf"for {NAME} does not have it as a DNS name"):
        seal(authority, certificate.read_text())


def test_a_stranger_cannot_name_a_host(authority, stranger):
    _key, certificate = stranger.issue(NAME, [NAME])
    chain = certificate.read_text() + stranger.certificate.read_text()
    for pem in (certificate.read_text(), chain):
        with pytest.raises(SealError, match=r"not good: .*(issuer|self-signed)"):
            seal(authority, pem)


def test_an_expired_certificate_is_refused(authority):
    _key, certificate = authority.issue(NAME, [NAME], days=-1)
    with pytest.raises(SealError, match="expired"):
        seal(authority, certificate.read_text())


@pytest.mark.parametrize("pem", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----"])
def test_no_certificate_at_all(authority, pem):
    with pytest.raises(SealError, match="no PEM certificate"):
        seal(authority, pem)


def damaged(certificate):
    lines = certificate.read_text().splitlines()
    lines[2] = lines[2][::-1]
    return "\n".join(lines)


def test_one_bad_certificate_spoils_no_other(authority, stranger):
    names = [f"h{number}.unit.example" for number in range(6)]
    good = {name: authority.issue(name, [name])[1].read_text() for name in names}
    bad = {
        "bad1": damaged(authority.issue("bad1", ["bad1"])[1]),
        "bad2": stranger.issue("bad2", ["bad2"])[1].read_text(),
        "bad3": None,
    }
    mixed = dict([*list(bad.items())[:2], *good.items(), ("bad3", None)])
    with sealed.Sealer(str(authority.certificate)) as sealer:
        sealer.take(mixed)
        for name in names:
            assert sealer.seal(name, DATA)
        for name in bad:
            with pytest.raises(SealError, match=rf"{name} (is not good|gave no)"):
                sealer.seal(name, DATA)
        directory = sealer.directory.name
    assert not os.path.exists(directory)


def test_a_missing_ca_is_told(authority, tmp_path):
    with (
        sealed.Sealer(str(tmp_path / "ca.crt")) as sealer,
        pytest.raises(SealError, match="is missing on this host"),
    ):
        sealer.take({})
