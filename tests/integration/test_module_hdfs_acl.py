"""hdfs_acl on a real, Kerberized HDFS: check, run, run again, check again, for every state."""

from __future__ import annotations

import pytest
from modulerun import Case, four_runs, on_lab, verify

PATH = "deitos.cluster.hdfs_path"
ACL = "deitos.cluster.hdfs_acl"
# Whatever the shell, this cluster's HDFS.
HDFS = "HADOOP_CONF_DIR=/etc/hadoop /opt/hadoop/bin/hdfs"
TOP = "/tmp/hdfs_acl_cases"


def at(name):
    """A path of a case."""
    return f"{TOP}/{name}"


def make(name, mode="0750", **options):
    """A preparing step: a path of a case."""
    return PATH, {"path": at(name), "mode": mode, **options}


def let(name, *entries, **options):
    """A preparing step: an ACL."""
    return ACL, {"path": at(name), "entries": list(entries), **options}


CASES = [
    Case(
        "an entry is added, and its mask",
        {"path": at("add"), "entries": ["user:alice:rwx"]},
        [make("add")],
        then={at("add"): "user::rwx user:alice:rwx group::r-x mask::rwx other::---"},
    ),
    Case(
        "entries may be one string, and acl is another word for them",
        {"path": at("string"), "acl": "user:alice:r--,group:staff:-w-"},
        [make("string", "0700")],
        then={
            at("string"): "user::rwx user:alice:r-- group::--- group:staff:-w- mask::rw- other::---"
        },
    ),
    Case(
        "an entry is changed and the others stay",
        {"path": at("change"), "entries": ["user:alice:r--"]},
        [make("change"), let("change", "user:alice:rwx", "group:staff:r-x")],
        then={
            at("change"): "user::rwx user:alice:r-- group::r-x group:staff:r-x mask::r-x other::---"
        },
    ),
    Case(
        "what is there is no change",
        {"path": at("same"), "entries": ["user:alice:r-x"]},
        [make("same"), let("same", "user:alice:r-x", "group:staff:r-x")],
        changed=False,
    ),
    Case(
        "a mask that is given holds",
        {"path": at("mask"), "entries": ["user:alice:rwx", "mask::r--"]},
        [make("mask")],
        then={
            at("mask"): "user::rwx user:alice:rwx\t#effective:r-- group::r-x\t#effective:r--"
            " mask::r-- other::---"
        },
    ),
    Case(
        "a mask of before is worked out anew with a new entry",
        {"path": at("remask"), "entries": ["user:bob:rw-"]},
        [make("remask"), let("remask", "user:alice:rwx", "mask::r--")],
        then={
            at("remask"): "user::rwx user:alice:rwx user:bob:rw- group::r-x mask::rwx other::---"
        },
    ),
    Case(
        "the base entries are the mode",
        {"path": at("base"), "entries": ["user::r-x", "group::---", "other::--x"]},
        [make("base")],
        then={at("base"): "user::r-x group::--- other::--x"},
    ),
    Case(
        "default entries bring those that must be there",
        {"path": at("default"), "entries": ["default:group:staff:rwx"]},
        [make("default")],
        then={
            at("default"): "user::rwx group::r-x other::--- default:user::rwx default:group::r-x"
            " default:group:staff:rwx default:mask::rwx default:other::---"
        },
    ),
    Case(
        "access and default at once",
        {"path": at("both"), "entries": ["user:alice:r-x", "default:user:alice:rwx"]},
        [make("both")],
        then={
            at("both"): "user::rwx user:alice:r-x group::r-x mask::r-x other::---"
            " default:user::rwx default:user:alice:rwx default:group::r-x default:mask::rwx"
            " default:other::---"
        },
    ),
    Case(
        "exactly these and the mode",
        {"path": at("exact"), "state": "exact", "entries": ["user:bob:r--"]},
        [make("exact"), let("exact", "user:alice:rwx", "default:user:alice:rwx")],
        then={at("exact"): "user::rwx user:bob:r-- group::r-x mask::r-x other::---"},
    ),
    Case(
        "exactly none",
        {"path": at("exactnone"), "state": "exact", "entries": []},
        [make("exactnone"), let("exactnone", "user:alice:rwx", "default:user:alice:rwx")],
        then={at("exactnone"): "user::rwx group::r-x other::---"},
    ),
    Case(
        "exactly what is there",
        {
            "path": at("exactsame"),
            "state": "exact",
            "entries": ["user:alice:rwx", "default:user:bob:r-x"],
        },
        [make("exactsame"), let("exactsame", "user:alice:rwx", "default:user:bob:r-x")],
        changed=False,
    ),
    Case(
        "exactly these, base entries too",
        {
            "path": at("exactbase"),
            "state": "exact",
            "entries": ["user::rwx", "group::r--", "other::r--", "group:staff:r-x", "mask::r--"],
        },
        [make("exactbase"), let("exactbase", "user:alice:rwx")],
        then={
            at("exactbase"): "user::rwx group::r-- group:staff:r-x\t#effective:r-- mask::r--"
            " other::r--"
        },
    ),
    Case(
        "an entry is removed, and the mask stays",
        {"path": at("remove"), "state": "absent", "entries": ["user:alice"]},
        [make("remove"), let("remove", "user:alice:rwx")],
        then={at("remove"): "user::rwx group::r-x mask::r-x other::---"},
    ),
    Case(
        "one entry of several is removed",
        {"path": at("removeone"), "state": "absent", "entries": ["user:alice:rwx"]},
        [make("removeone"), let("removeone", "user:alice:rwx", "group:staff:r--")],
        then={at("removeone"): "user::rwx group::r-x group:staff:r-- mask::r-x other::---"},
    ),
    Case(
        "what is not there is removed already",
        {"path": at("removenone"), "state": "absent", "entries": ["user:carol", "default:user:x"]},
        [make("removenone"), let("removenone", "user:alice:rwx")],
        changed=False,
    ),
    Case(
        "a needed mask is not removed",
        {"path": at("removemask"), "state": "absent", "entries": ["mask:"]},
        [make("removemask"), let("removemask", "user:alice:rwx")],
        fails="mask cannot be removed",
    ),
    Case(
        "the owner's entry is not removed",
        {"path": at("removeuser"), "state": "absent", "entries": ["user:"]},
        [make("removeuser")],
        fails="cannot be missing",
    ),
    Case(
        "stripped, the group has its own permissions again",
        {"path": at("strip"), "state": "stripped"},
        [make("strip", "0710"), let("strip", "user:alice:rwx", "default:user:alice:rwx")],
        then={at("strip"): "user::rwx group::--x other::---"},
    ),
    Case("stripped already", {"path": at("bare"), "state": "stripped"}, [make("bare")], False),
    Case(
        "the default entries are removed",
        {"path": at("nodefault"), "state": "no_default"},
        [make("nodefault"), let("nodefault", "user:alice:rwx", "default:user:alice:rwx")],
        then={at("nodefault"): "user::rwx user:alice:rwx group::r-x mask::rwx other::---"},
    ),
    Case(
        "recursive, X for directories and programs",
        {
            "path": at("rec"),
            "entries": ["user:alice:rX", "default:user:alice:rX"],
            "recursive": True,
        },
        [
            make("rec/d"),
            make("rec/d/text", "0640", state="file", content="x"),
            make("rec/d/program", "0750", state="file", content="x"),
        ],
        then={
            at("rec/d"): "user::rwx user:alice:r-x group::r-x mask::r-x other::---"
            " default:user::rwx default:user:alice:r-x default:group::r-x default:mask::r-x"
            " default:other::---",
            at("rec/d/text"): "user::rw- user:alice:r-- group::r-- mask::r-- other::---",
            at("rec/d/program"): "user::rwx user:alice:r-x group::r-x mask::r-x other::---",
        },
    ),
    Case(
        "recursive removal",
        {"path": at("recrm"), "entries": ["user:alice"], "state": "absent", "recursive": True},
        [
            make("recrm/d"),
            make("recrm/d/f", "0640", state="file", content="x"),
            let("recrm", "user:alice:rwx", "user:bob:r-x", recursive=True),
        ],
        then={
            at("recrm/d"): "user::rwx user:bob:r-x group::r-x mask::r-x other::---",
            at("recrm/d/f"): "user::rw- user:bob:r-x group::r-- mask::r-x other::---",
        },
    ),
    Case(
        "recursive stripping",
        {"path": at("recstrip"), "state": "stripped", "recursive": True},
        [make("recstrip/d"), let("recstrip", "user:alice:rwx", recursive=True)],
        then={at("recstrip/d"): "user::rwx group::r-x other::---"},
    ),
    Case(
        "many paths, many states",
        {
            "acls": [
                {"path": at("m/a"), "entries": ["user:alice:r-x"]},
                {"path": at("m/b"), "state": "stripped"},
                {"path": at("m/c"), "state": "exact", "entries": ["group:staff:rwx"]},
            ]
        },
        [make("m/a"), make("m/b"), make("m/c"), let("m/b", "user:x:r--"), let("m/c", "user:x:r--")],
        then={
            at("m/a"): "user::rwx user:alice:r-x group::r-x mask::r-x other::---",
            at("m/b"): "user::rwx group::r-x other::---",
            at("m/c"): "user::rwx group::r-x group:staff:rwx mask::rwx other::---",
        },
    ),
    Case(
        "a path within another, in order",
        {
            "acls": [
                {"path": at("o"), "entries": ["user:alice:rwx"], "recursive": True},
                {"path": at("o/i"), "state": "stripped"},
            ]
        },
        [make("o/i")],
        # Each run does one and then the other.
        steady=False,
        then={at("o/i"): "user::rwx group::r-x other::---"},
    ),
    Case(
        "a sticky bit stays",
        {"path": at("sticky"), "entries": ["user:alice:r-x"]},
        [make("sticky", "1750")],
        then={at("sticky"): "flags: user::rwx user:alice:r-x group::r-x mask::r-x other::---"},
    ),
    Case(
        "a file has no default entries",
        {"path": at("f"), "entries": ["default:user:alice:r--"]},
        [make("f", state="file", content="x")],
        fails="only directories have default entries",
    ),
    Case(
        "one bad item does not hide the others",
        {
            "acls": [
                {"path": at("g1"), "entries": ["user:alice:r-x"]},
                {"path": at("nowhere"), "state": "stripped"},
            ]
        },
        [make("g1")],
        fails="there is no such path",
        # In a check run an earlier task may have foretold it alone.
        foreseen=False,
        then={at("g1"): "user::rwx user:alice:r-x group::r-x mask::r-x other::---"},
    ),
    Case("no type", {"path": at("g1"), "entries": ["alice:r-x"]}, fails="is no ACL entry"),
    Case("a bad type", {"path": at("g1"), "entries": ["usr:alice:r-x"]}, fails="the type is one"),
    Case("a bad permission", {"path": at("g1"), "entries": ["user:alice:rwz"]}, fails="letters of"),
    Case("a named mask", {"path": at("g1"), "entries": ["mask:x:r--"]}, fails="has no name"),
    Case(
        "an entry twice",
        {"path": at("g1"), "entries": ["user:alice:r-x", "user:alice:r--"]},
        fails="listed twice",
    ),
    Case("no entries", {"path": at("g1"), "entries": []}, fails="needs entries"),
    Case(
        "entries where none are taken",
        {"path": at("g1"), "state": "stripped", "entries": ["user:alice:r-x"]},
        fails="takes no entries",
    ),
    Case(
        "more entries than HDFS takes",
        {"path": at("g1"), "entries": [f"user:u{n}:r-x" for n in range(30)]},
        fails="at most 32 access entries",
    ),
]


def play(execute, shell):
    """All the runs of all the cases, and then what getfacl says."""
    top = Case("top", {"path": TOP, "state": "stripped"}, [make("", "0755", group="hdfs")])
    results = four_runs(execute, ACL, [top, *CASES])
    return results, described(shell(f"{HDFS} dfs -getfacl -R {TOP}"))


def described(printed):
    """{path: entries} of what `hdfs dfs -getfacl` has printed, flags first."""
    found = {}
    for block in printed.split("\n\n"):
        lines = block.strip().splitlines()
        if lines:
            path = lines[0].removeprefix("# file: ")
            flags = ["flags:"] if any(line.startswith("# flags:") for line in lines) else []
            found[path] = " ".join([*flags, *(line for line in lines if not line.startswith("#"))])
    return found


@pytest.fixture(scope="module")
def outcome(cluster, daemon_key):
    root = daemon_key("namenode", "hdfs", "nn")
    root.ok(f"{HDFS} dfs -rm -r -f -skipTrash {TOP}")
    defaults = {"endpoints": [cluster.web()["namenode"]]}
    yield play(on_lab(cluster.hosts("namenode")[0], defaults), root.ok)
    root.ok(f"{HDFS} dfs -rm -r -f -skipTrash {TOP}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case, outcome):
    results, found = outcome
    verify(case, results[case.name])
    for path, words in case.then.items():
        assert found.get(path) == words
    returned = results[case.name][-1].get("acls", [])
    for acl in returned:
        # What the module says must be what HDFS says, its notes on the mask too.
        said = [
            entry
            if acl["effective"].get(subject) in (None, bits)
            else f"{entry}\t#effective:{acl['effective'][subject]}"
            for entry in acl["entries"]
            for subject, _, bits in [entry.rpartition(":")]
        ]
        if case.steady:
            assert found[acl["path"]].removeprefix("flags: ") == " ".join(said)
