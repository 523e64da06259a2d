"""Keytabs as data: our bytes are Kerberos' bytes, damage is noticed, no key ever shows."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import keytab
from ansible_collections.deitos.cluster.plugins.module_utils.kadmin import (
    ItemError,
    Kadmin,
    Principal,
)
from ansible_collections.deitos.cluster.plugins.module_utils.keytab import Entry, KeytabError
from hypothesis import given
from hypothesis import strategies as st

NAME = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
ENTRY = st.builds(
    Entry,
    st.builds(Principal, st.lists(NAME, min_size=1, max_size=4), NAME),
    st.integers(1, 2**32 - 1),
    st.sampled_from(sorted(keytab.ENCTYPES)),
    st.binary(min_size=1, max_size=64),
    st.integers(0, 2**32 - 1),
    st.integers(0, 5),
)


def entry(name="host/a@R", kvno=1, enctype=18, key=b"k" * 32):
    return Entry(Principal.parse(name), kvno, enctype, key)


@given(st.lists(ENTRY, max_size=6))
def test_what_is_written_reads_back(entries):
    found = keytab.decode(keytab.encode(entries))
    assert found == entries
    # What equality leaves out must come back as well.
    assert [(one.timestamp, one.name_type) for one in found] == [
        (one.timestamp, one.name_type) for one in entries
    ]


@given(st.lists(ENTRY, min_size=1, max_size=3), st.data())
def test_a_keytab_cut_short_is_an_error_or_has_fewer_entries(entries, data):
    whole = keytab.encode(entries)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with contextlib.suppress(KeytabError):
        assert len(keytab.decode(cut)) < len(entries)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_keytab_or_a_clean_error(data):
    for start in (b"", keytab.MAGIC):
        with contextlib.suppress(KeytabError):
            keytab.decode(start + data)


def test_holes_and_a_version_of_eight_bits():
    one = entry(kvno=300)
    record = keytab.encode([one])[2:]
    short = record[4:-4]  # without the 32 bits at the end, the version is its low byte
    data = keytab.MAGIC + struct.pack(">i", -7) + b"x" * 7
    data += struct.pack(">i", len(short)) + short + struct.pack(">i", 0) + b"rest"
    assert [found.kvno for found in keytab.decode(data)] == [300 & 0xFF]


def test_klist_reads_ours(kerberos_tools, tmp_path):
    path = tmp_path / "a.keytab"
    path.write_bytes(keytab.encode([entry("host/a.b@R", 3), entry("x y@R", 300, 20)]))
    done = subprocess.run(["klist", "-kte", str(path)], check=True, capture_output=True, text=True)
    assert "   3 " in done.stdout
    assert "host/a.b@R (aes256-cts-hmac-sha1-96)" in done.stdout
    assert " 300 " in done.stdout
    assert "x y@R (aes256-cts-hmac-sha384-192)" in done.stdout


def test_a_fingerprint_depends_on_all_and_tells_no_key():
    base = entry()
    others = [
        entry(name="host/b@R"),
        entry(kvno=2),
        entry(enctype=17),
        entry(key=b"l" * 32),
    ]
    digests = {one.fingerprint.rpartition(" ")[2] for one in [base, *others]}
    assert len(digests) == 5
    assert entry().fingerprint == base.fingerprint
    assert "kkkk" not in repr(base)
    assert base.fingerprint.startswith("host/a@R version 1 aes256-cts-hmac-sha1-96 ")


@given(ENTRY)
def test_a_fingerprint_is_read(one):
    found = keytab.parse_fingerprint(one.fingerprint)
    assert found == (one.principal.full, one.kvno, one.label)


def test_fingerprints_have_one_order_and_no_repeats():
    one, two = entry(), entry(kvno=2)
    assert keytab.fingerprints([two, one, two]) == keytab.fingerprints([one, two])


def test_keys_come_out_of_the_kdc_as_they_are(kdc, tmp_path):
    names = [f"svc/h{number}" for number in range(45)]
    with Kadmin(["kadmin.local"]) as session:
        session.run([["add_principal", "-randkey", name] for name in names])
        wanted = [Principal.parse(name) for name in [*names, "nobody"]]
        found = keytab.extract(session, wanted)
        again = keytab.extract(session, wanted)
    assert isinstance(found[Principal.parse("nobody")], ItemError)
    assert str(found.pop(Principal.parse("nobody"))) == "nobody@UNIT.TEST is not in the KDC"
    again.pop(Principal.parse("nobody"))
    assert found == again
    assert all(len(entries) == 3 for entries in found.values())
    assert {one.kvno for entries in found.values() for one in entries} == {1}
    # The KDC accepts them.
    path = tmp_path / "a.keytab"
    path.write_bytes(keytab.encode(found[Principal.parse("svc/h44")]))
    kdc.start()
    assert kdc.login("svc/h44", keytab=path) == ""


def test_nothing_is_left_behind(kdc, tmp_path, monkeypatch):
    monkeypatch.setattr(keytab.tempfile, "mkdtemp", mine := Made(tmp_path))
    with Kadmin(["kadmin.local"]) as session:
        keytab.extract(session, [Principal.parse("K/M")])
        session.process.kill()
        session.process.wait()
        with pytest.raises(Exception, match="ended"):
            keytab.extract(session, [Principal.parse("K/M")])
    assert len(mine.paths) == 2
    assert not any(os.path.exists(path) for path in mine.paths)


class Made:
    """Remembers the directories it makes."""

    def __init__(self, root):
        self.root, self.paths = root, []

    def __call__(self, prefix, dir):
        self.paths.append(str(self.root / f"{prefix}{len(self.paths)}"))
        os.mkdir(self.paths[-1], 0o700)
        return self.paths[-1]
