"""ACLs by the NameNode's rules; that these are its rules, the differential test shows."""

from __future__ import annotations

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import hdfs_entries
from ansible_collections.deitos.cluster.plugins.module_utils.hdfs_entries import parse
from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem
from hypothesis import given
from hypothesis import strategies as st

PLAIN = hdfs_entries.logical("750")


def texts(entries):
    """Entries as strings."""
    return [str(entry) for entry in entries]


SUBJECTS = st.one_of(
    st.tuples(st.sampled_from(["user", "group"]), st.sampled_from(["", "a", "b", "c"])),
    st.tuples(st.sampled_from(["mask", "other"]), st.just("")),
)
SPECS = st.dictionaries(
    st.tuples(st.booleans(), SUBJECTS), st.integers(0, 7), min_size=1, max_size=6
).map(
    lambda found: [
        hdfs_entries.Entry(default, kind, name, bits)
        for (default, (kind, name)), bits in found.items()
    ]
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("user:alice:rwx", "user:alice:rwx"),
        ("user:alice:r", "user:alice:r--"),
        ("group::r-x", "group::r-x"),
        ("default:mask::-w-", "default:mask::-w-"),
        ("DEFAULT:User:Alice:rw", "default:user:Alice:rw-"),
        ("other::---", "other::---"),
        ("user:a.b-c_d@R:x", "user:a.b-c_d@R:--x"),
    ],
)
def test_an_entry(text, wanted):
    assert texts(parse([text])) == [wanted]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("alice:rwx", "is no ACL entry"),
        ("user:alice", "is no ACL entry"),
        ("user:alice:", "letters of"),
        ("user:alice:xwr", "letters of"),
        ("user:alice:rwxx", "letters of"),
        ("person:alice:rwx", "the type is one of"),
        ("mask:alice:rwx", "has no name"),
        ("other:x:rwx", "has no name"),
        ("user:a b:rwx", "no blanks"),
        ("default:default:user:a:rwx", "is no ACL entry"),
    ],
)
def test_no_entry(text, reason):
    with pytest.raises(Problem, match=reason):
        parse([text])


def test_several_in_one_string_and_none_twice():
    assert texts(parse(["user:a:r--, group:b:-w-", "mask::rwx"])) == [
        "user:a:r--",
        "group:b:-w-",
        "mask::rwx",
    ]
    with pytest.raises(Problem, match="user:a is listed twice"):
        parse(["user:a:r--", "user:a:rwx"])


def test_removal_needs_no_permissions():
    assert [entry.subject for entry in parse(["user:a", "default:group:b:rwx"], removal=True)] == [
        "user:a",
        "default:group:b",
    ]


def test_all_entries_of_a_mode_and_of_an_acl():
    assert texts(PLAIN) == ["user::rwx", "group::r-x", "other::---"]
    acl = {"permission": "1770", "entries": ["user:a:rwx", "group::r--", "default:user::rwx"]}
    assert texts(hdfs_entries.logical("770", acl)) == [
        "user::rwx",
        "user:a:rwx",
        "group::r--",
        "mask::rwx",
        "other::---",
        "default:user::rwx",
    ]


def test_capital_x():
    entries = parse(["user:a:rX", "default:user:a:rX"])
    for mode, directory, wanted in (
        ("640", False, "r--"),
        ("740", False, "r-x"),
        ("600", True, "r-x"),
    ):
        resolved = hdfs_entries.resolve(entries, hdfs_entries.logical(mode), directory)
        assert texts(resolved)[0] == f"user:a:{wanted}"
        assert texts(resolved)[1] == "default:user:a:r-x"


def test_effective_permissions_and_how_they_are_shown():
    acl = hdfs_entries.merge(PLAIN, parse(["user:a:rwx", "mask::r--"]))
    assert hdfs_entries.effective(acl) == {"user:a": "r--", "group:": "r--"}
    assert "user:a:rwx\t#effective:r--\n" in hdfs_entries.shown(acl)
    assert hdfs_entries.effective(PLAIN) == {}


def test_too_many():
    many = parse([f"user:u{number}:r--" for number in range(29)])
    with pytest.raises(Problem, match="at most 32"):
        hdfs_entries.merge(PLAIN, many)
    assert len(hdfs_entries.merge(PLAIN, many[:28])) == 32


@given(SPECS, SPECS)
def test_adding_twice_is_adding_once(first, second):
    acl = hdfs_entries.merge(hdfs_entries.merge(PLAIN, first), second)
    assert hdfs_entries.merge(acl, second) == acl


@given(SPECS, SPECS)
def test_exact_forgets_what_was(first, second):
    second = [entry for entry in second if entry.name or entry.type == "mask"]
    acl = hdfs_entries.merge(PLAIN, [entry for entry in first if entry.name])
    assert hdfs_entries.exact(acl, second) == hdfs_entries.exact(PLAIN, second)


@given(SPECS)
def test_an_acl_is_told_from_what_webhdfs_says_of_it(entries):
    acl = hdfs_entries.merge(PLAIN, entries)
    status = hdfs_entries.as_status(acl)
    assert hdfs_entries.logical(status["permission"], status) == acl


@given(SPECS, SPECS)
def test_requests_make_one_acl_of_another(first, second):
    before, after = (hdfs_entries.merge(PLAIN, entries) for entries in (first, second))
    found = before
    for op, parameters in hdfs_entries.requests(before, after):
        # As the NameNode has it, default entries stay when none are given.
        kept = hdfs_entries.strip_default(found)
        if op == "SETACL":
            given_entries = parse([parameters["aclspec"]])
            new = any(entry.default for entry in given_entries)
            kept = given_entries if new else given_entries + [e for e in found if e.default]
        found = hdfs_entries.ordered(kept)
    assert found == after
    assert (before == after) == (hdfs_entries.requests(before, after) == []) or any(
        entry.default for entry in after
    )


@given(SPECS)
def test_stripping_leaves_the_mode(entries):
    acl = hdfs_entries.merge(PLAIN, [entry for entry in entries if entry.name or entry.default])
    assert hdfs_entries.strip(acl) == PLAIN
    assert not any(entry.default for entry in hdfs_entries.strip_default(acl))


@given(SPECS)
def test_what_is_added_can_be_removed(entries):
    named = [entry for entry in entries if entry.name]
    acl = hdfs_entries.merge(PLAIN, entries)
    left = hdfs_entries.remove(acl, named)
    assert not {entry.key for entry in named} & {entry.key for entry in left}
    assert hdfs_entries.remove(left, named) == left


@given(SPECS)
def test_an_acl_is_complete_and_in_order(entries):
    acl = hdfs_entries.merge(PLAIN, entries)
    assert acl == hdfs_entries.ordered(acl)
    keys = [entry.key for entry in acl]
    assert len(keys) == len(set(keys))
    for default in {entry.default for entry in acl}:
        assert {(default, kind, "") for kind in ("user", "group", "other")} <= set(keys)
        if any(entry.name for entry in acl if entry.default == default):
            assert (default, "mask", "") in keys
