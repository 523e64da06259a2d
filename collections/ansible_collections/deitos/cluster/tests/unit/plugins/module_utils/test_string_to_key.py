"""The key of a password: the standards' own examples, and the KDC's."""

from __future__ import annotations

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import keytab, string_to_key
from ansible_collections.deitos.cluster.plugins.module_utils.kadmin import Kadmin, Principal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "size", "folded"),
    [
        # RFC 3961, A.1
        (b"012345", 8, "be072631276b1955"),
        (b"password", 7, "78a07b6caf85fa"),
        (b"Rough Consensus, and Running Code", 8, "bb6ed30870b7f0e0"),
        (b"password", 21, "59e4a8ca7c0385c3c37b3f6d2000247cb6e6bd5b3e"),
        (
            b"MASSACHVSETTS INSTITVTE OF TECHNOLOGY",
            24,
            "db3b0d8f0b061e603282b308a50841229ad798fab9540c1b",
        ),
        (b"kerberos", 16, "6b65726265726f737b9b5b2b93132b93"),
    ],
)
def test_n_fold(text, size, folded):
    assert string_to_key.n_fold(text, size).hex() == folded


@pytest.mark.parametrize(
    ("key", "cipher"),
    [
        # FIPS 197, C.1 and C.3
        (bytes(range(16)), "69c4e0d86a7b0430d8cdb78070b4c55a"),
        (bytes(range(32)), "8ea2b7ca516745bfeafc49904b496089"),
    ],
)
def test_aes(key, cipher):
    block = bytes.fromhex("00112233445566778899aabbccddeeff")
    rounds = string_to_key._key_schedule(key)
    assert string_to_key._encrypt_block(rounds, block).hex() == cipher


def test_an_unknown_type_has_no_key():
    assert string_to_key.string_to_key(23, b"x", b"y") is None


@pytest.mark.parametrize(
    "password", ["password", 'pä ss"w$(id)', "\\", "  lead", "ノード", "x" * 200, '""', "-pw"]
)
def test_the_kdc_makes_the_same_key(kdc, password):
    types = "aes256-sha2:normal,aes128-sha2:normal,aes256-cts:normal,aes128-cts:normal"
    principal = Principal(["zoé", "a b"], kdc.realm)
    with Kadmin(["kadmin.local"]) as session:
        word = principal.word(kdc.realm)
        (answer,) = session.run([["add_principal", "-e", types, "-pw", password, word]])
        assert answer.endswith(" created.\n")
        entries = keytab.extract(session, [principal])[principal]
    assert sorted(entry.enctype for entry in entries) == [17, 18, 19, 20]
    salt = (kdc.realm + "zoéa b").encode()
    for entry in entries:
        assert string_to_key.string_to_key(entry.enctype, password.encode(), salt) == entry.key, (
            entry
        )


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5, unique_by=lambda one: one[0]))
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_password_reaches_the_kdc_unharmed(kdc, accounts):
    passwords = {Principal([name], kdc.realm): password for name, password in accounts}
    with Kadmin(["kadmin.local"]) as session:
        words = {principal: principal.word(kdc.realm) for principal in passwords}
        session.run(
            ["add_principal", "-e", "aes256-cts:normal", "-pw", password, words[principal]]
            for principal, password in passwords.items()
        )
        found = keytab.extract(session, passwords)
        session.run([["delete_principal", "-force", word] for word in words.values()])
    for principal, password in passwords.items():
        salt = (kdc.realm + principal.components[0]).encode()
        (entry,) = found[principal]
        assert entry.key == string_to_key.string_to_key(18, password.encode(), salt)
