"""hdfs_path on a real, Kerberized HDFS: check, run, run again, check again, for every state."""

from __future__ import annotations

import hashlib
import re

import pytest
import test_module_hdfs_acl
from modulerun import Case, four_runs, on_lab, verify

PATH = "deitos.cluster.hdfs_path"
ACL = "deitos.cluster.hdfs_acl"
# Whatever the shell, this cluster's HDFS.
HDFS = "HADOOP_CONF_DIR=/etc/hadoop /opt/hadoop/bin/hdfs"
TOP = "/tmp/hdfs_path_cases"
TEXT = "one\ntwo\n"
# Longer than the size from which a file carries its digest.
LONG = "/usr/bin/python3.11"


def at(name):
    """A path of a case."""
    return f"{TOP}/{name}"


def make(name, **options):
    """A preparing step: a path of a case."""
    return PATH, {"path": at(name), **options}


def let(name, *entries, **options):
    """A preparing step: an ACL."""
    return ACL, {"path": at(name), "entries": list(entries), **options}


def made(kind, mode, owner="hdfs", group="hdfs"):
    """How `hdfs dfs -stat` describes a path."""
    return f"{kind} {mode} {owner} {group}"


FOLDER, FILE = "directory", "regular file"

CASES = [
    # Directories
    Case(
        "a new directory has the default mode",
        {"path": at("plain"), "group": "hdfs"},
        then={at("plain"): made(FOLDER, 755)},
    ),
    Case(
        "a new directory with owner, group and mode",
        {"path": at("owned"), "owner": "alice", "group": "staff", "mode": "0750"},
        then={at("owned"): made(FOLDER, 750, "alice", "staff")},
    ),
    Case(
        "a sticky directory",
        {"path": at("sticky"), "group": "hdfs", "mode": "1777"},
        then={at("sticky"): made(FOLDER, 1777)},
    ),
    Case(
        "missing parents get the mode that is said for them",
        {"path": at("p1/p2/p3"), "mode": "0700", "group": "hdfs", "parents_mode": "0711"},
        then={at("p1"): "directory 711 hdfs", at("p1/p2"): "directory 711 hdfs"},
    ),
    Case(
        "missing parents are not restricted by a umask",
        {"path": at("u1/u2"), "mode": "0700"},
        then={at("u1"): "directory 755 hdfs", at("u1/u2"): "directory 700 hdfs"},
    ),
    Case(
        "missing parents are refused without parents",
        {"path": at("q1/q2"), "parents": False},
        fails="is missing, and parents is off",
        then={at("q1"): None},
    ),
    Case(
        "a changed mode is put right",
        {"path": at("mode"), "mode": "0750"},
        [make("mode", mode="0777", group="hdfs")],
        then={at("mode"): made(FOLDER, 750)},
    ),
    Case(
        "a changed owner is put right",
        {"path": at("owner"), "owner": "alice"},
        [make("owner", owner="bob", group="staff")],
        then={at("owner"): made(FOLDER, 755, "alice", "staff")},
    ),
    Case(
        "a changed group is put right",
        {"path": at("group"), "group": "sales"},
        [make("group", owner="bob", group="staff")],
        then={at("group"): made(FOLDER, 755, "bob", "sales")},
    ),
    Case(
        "the sticky bit is taken away",
        {"path": at("unsticky"), "mode": "0777"},
        [make("unsticky", mode="1777", group="hdfs")],
        then={at("unsticky"): made(FOLDER, 777)},
    ),
    Case(
        "what is not named stays",
        {"path": at("stays")},
        [make("stays", owner="bob", group="staff", mode="0711")],
        changed=False,
        then={at("stays"): made(FOLDER, 711, "bob", "staff")},
    ),
    Case(
        "a symbolic mode",
        {"path": at("symbolic"), "mode": "u=rwx,g+rX-w,o="},
        [make("symbolic", mode="0727", group="hdfs")],
        then={at("symbolic"): made(FOLDER, 750)},
    ),
    Case(
        "a symbolic sticky bit",
        {"path": at("symsticky"), "mode": "+t"},
        [make("symsticky", mode="0770", group="hdfs")],
        then={at("symsticky"): made(FOLDER, 1770)},
    ),
    Case(
        "a symbolic mode on a new directory starts from the default",
        {"path": at("symnew"), "mode": "o-rx,g+w", "group": "hdfs"},
        then={at("symnew"): made(FOLDER, 770)},
    ),
    Case(
        "a name with everything that a URL would mistake",
        {"path": at("a b+c%41&d=e;f#g?hé'\"\\"), "mode": "0700", "group": "hdfs"},
    ),
    Case(
        "a file in the way is refused",
        {"path": at("inway")},
        [make("inway", state="file", content="x")],
        fails="a file is in the way",
    ),
    Case(
        "a file above is refused",
        {"path": at("filey/below")},
        [make("filey", state="file", content="x")],
        fails="is a file",
    ),
    Case("a relative path is refused", {"path": "tmp/x"}, fails="absolute"),
    Case("a URI is refused", {"path": "hdfs://deitos/tmp"}, fails="absolute"),
    Case("dots are refused", {"path": at("../x")}, fails="'..'"),
    Case("a mode without quotes is refused", {"path": at("x"), "mode": 493}, fails="in quotes"),
    Case("a setuid bit is refused", {"path": at("x"), "mode": "4755"}, fails="setuid"),
    Case(
        "a path listed twice is refused",
        {"paths": [{"path": at("twice")}, {"path": at("twice") + "/"}]},
        fails="listed twice",
    ),
    # Many
    Case(
        "a tree in one call, in order",
        {
            "group": "hdfs",
            "paths": [
                {"path": at("tree"), "mode": "0751"},
                {"path": at("tree/a"), "mode": "0752"},
                {"path": at("tree/a/b"), "mode": "0753"},
                {"path": at("tree/c/d"), "mode": "0750"},
            ],
        },
        then={
            at("tree"): made(FOLDER, 751),
            at("tree/a"): made(FOLDER, 752),
            at("tree/a/b"): made(FOLDER, 753),
        },
    ),
    Case(
        "one bad item does not hide the others",
        {"paths": [{"path": at("good1")}, {"path": at("bad:")}, {"path": at("good2")}]},
        fails="bad:",
        then={at("good1"): "directory 755 hdfs", at("good2"): "directory 755 hdfs"},
    ),
    Case(
        "what cannot be made takes what is in it along",
        {"paths": [{"path": at("ff/x")}, {"path": at("ff/x/y")}, {"path": at("fine")}]},
        [make("ff", state="file", content="x")],
        fails="ff/x",
        then={at("fine"): "directory 755 hdfs"},
    ),
    Case(
        "the task's options hold for items that say nothing else",
        {
            "owner": "alice",
            "mode": "0700",
            "paths": [{"path": at("t1")}, {"path": at("t2"), "mode": "0711"}],
        },
        then={at("t1"): "directory 700 alice", at("t2"): "directory 711 alice"},
    ),
    Case(
        "twenty in one directory",
        {
            "paths": [
                {"path": at(f"many/{n}"), "owner": f"u{n}", "group": "hdfs"} for n in range(20)
            ]
        },
        then={at("many/7"): made(FOLDER, 755, "u7")},
    ),
    # Recursive
    Case(
        "recursive owner, group and X",
        {
            "path": at("rec"),
            "owner": "carol",
            "group": "staff",
            "mode": "u=rwX,g=rX,o=",
            "recursive": True,
        },
        [
            make("rec/in/deep", mode="0777"),
            make("rec/in/file", state="file", content="x", mode="0666"),
            make("rec/in/program", state="file", content="x", mode="0711"),
        ],
        then={
            at("rec"): made(FOLDER, 750, "carol", "staff"),
            at("rec/in/deep"): made(FOLDER, 750, "carol", "staff"),
            at("rec/in/file"): made(FILE, 640, "carol", "staff"),
            at("rec/in/program"): made(FILE, 750, "carol", "staff"),
        },
    ),
    Case(
        "recursive finds nothing to do",
        {"path": at("recsame"), "mode": "0755", "recursive": True},
        [make("recsame/a"), make("recsame/b")],
        changed=False,
    ),
    # Files
    Case(
        "a new file",
        {"path": at("f/new"), "state": "file", "content": TEXT, "owner": "bob", "mode": "0640"},
        then={at("f/new"): f"regular file 640 bob hdfs {len(TEXT)}"},
    ),
    Case(
        "a new file has the default mode",
        {"path": at("f/def"), "state": "file", "content": "", "group": "hdfs"},
        then={at("f/def"): f"{made(FILE, 644)} 0"},
    ),
    Case(
        "other content of the same length is written",
        {"path": at("f/same"), "state": "file", "content": "two"},
        [make("f/same", state="file", content="one", owner="bob", group="staff", mode="0600")],
        then={at("f/same"): f"{made(FILE, 600, 'bob', 'staff')} 3"},
    ),
    Case(
        "longer content is written and the mode with it",
        {"path": at("f/longer"), "state": "file", "content": "three", "mode": "0644"},
        [make("f/longer", state="file", content="one", owner="bob", group="staff", mode="0600")],
        then={at("f/longer"): f"{made(FILE, 644, 'bob', 'staff')} 5"},
    ),
    Case(
        "the same content is left",
        {"path": at("f/left"), "state": "file", "content": TEXT},
        [make("f/left", state="file", content=TEXT)],
        changed=False,
    ),
    Case(
        "a number is its text",
        {"path": at("f/number"), "state": "file", "content": 42},
        then={at("f/number"): "regular file 644 hdfs hdfs 2"},
    ),
    Case(
        "a long file is written and then not read back",
        {"path": at("f/long"), "state": "file", "src": LONG},
        then={at("f/long"): "regular file 644 hdfs hdfs"},
    ),
    Case(
        "another long file is put in its place",
        {"path": at("f/back"), "state": "file", "src": LONG},
        [make("f/back", state="file", src="/usr/bin/bash")],
    ),
    Case(
        "content from a file of the host",
        {"path": at("f/src"), "state": "file", "src": "/etc/passwd", "mode": "0644"},
    ),
    Case(
        "no such source",
        {"path": at("f/nosrc"), "state": "file", "src": "/nowhere"},
        fails="src /nowhere cannot be read",
    ),
    Case(
        "an ACL outlives new content",
        {"path": at("f/acl"), "state": "file", "content": "new"},
        [
            make("f/acl", state="file", content="old"),
            let("f/acl", "user:alice:rw-"),
        ],
        then={at("f/acl"): "regular file 664 hdfs hdfs 3"},
    ),
    Case(
        "a file that must be there is",
        {"path": at("f/there"), "state": "file", "mode": "0600"},
        [make("f/there", state="file", content="x")],
        then={at("f/there"): "regular file 600 hdfs hdfs 1"},
    ),
    Case(
        "a file that must be there is not",
        {"path": at("f/nowhere"), "state": "file"},
        fails="neither content nor src",
    ),
    Case(
        "a directory in the way of a file is refused",
        {"path": at("f"), "state": "file", "content": "x"},
        fails="a directory is in the way",
    ),
    Case(
        "content needs state=file",
        {"path": at("f/d"), "content": "x"},
        fails="state=file only",
    ),
    Case(
        "replication of a new file",
        {"path": at("f/rep"), "state": "file", "content": "x", "replication": 2},
        then={at("f/rep"): f"{made(FILE, 644)} 1 2"},
    ),
    Case(
        "replication is changed",
        {"path": at("f/rep2"), "state": "file", "replication": 2},
        [make("f/rep2", state="file", content="x", replication=1)],
        then={at("f/rep2"): f"{made(FILE, 644)} 1 2"},
    ),
    Case(
        "replication of a whole tree",
        {"path": at("reptree"), "replication": 2, "recursive": True},
        [make("reptree/a/f", state="file", content="x", replication=1)],
        then={at("reptree/a/f"): f"{made(FILE, 644)} 1 2"},
    ),
    # Touch
    Case(
        "touch makes an empty file",
        {"path": at("touch/new"), "state": "touch", "mode": "0600"},
        steady=False,
        then={at("touch/new"): "regular file 600 hdfs hdfs 0"},
    ),
    Case(
        "touch leaves the content",
        {"path": at("touch/old"), "state": "touch"},
        [make("touch/old", state="file", content=TEXT)],
        steady=False,
        then={at("touch/old"): f"regular file 644 hdfs hdfs {len(TEXT)}"},
    ),
    # Absent
    Case("nothing is absent already", {"path": at("none"), "state": "absent"}, changed=False),
    Case(
        "a file is removed",
        {"path": at("rm/file"), "state": "absent"},
        [make("rm/file", state="file", content="x")],
        then={at("rm/file"): None, at("rm"): "directory 755 hdfs"},
    ),
    Case(
        "an empty directory is removed",
        {"path": at("rm/empty"), "state": "absent"},
        [make("rm/empty")],
        then={at("rm/empty"): None},
    ),
    Case(
        "a full directory is not removed",
        {"path": at("rm/full"), "state": "absent"},
        [make("rm/full/inside")],
        fails="not empty",
        then={at("rm/full/inside"): "directory 755 hdfs"},
    ),
    Case(
        "a full directory is removed on request",
        {"path": at("rm/whole"), "state": "absent", "recursive": True},
        [make("rm/whole/inside/deep")],
        then={at("rm/whole"): None},
    ),
    Case(
        "contents and then their directory are removed",
        {
            "state": "absent",
            "paths": [{"path": at("rm/seq/a")}, {"path": at("rm/seq/b")}, {"path": at("rm/seq")}],
        },
        [make("rm/seq/a"), make("rm/seq/b")],
        then={at("rm/seq"): None},
    ),
    Case(
        "removed and made anew below",
        {
            "paths": [
                {"path": at("anew"), "state": "absent", "recursive": True},
                {"path": at("anew/x/y"), "mode": "0700"},
            ]
        },
        [make("anew/x/z")],
        steady=False,
        then={at("anew/x/y"): "directory 700 hdfs", at("anew/x/z"): None},
    ),
    Case("the root is not removed", {"path": "/", "state": "absent"}, fails="root directory"),
    # Quotas
    Case(
        "quotas of a new directory",
        {"path": at("quota/new"), "name_quota": 100, "space_quota": "10g"},
        told={at("quota/new"): f"names 100 space {10 << 30}"},
    ),
    Case(
        "a quota is changed and the other is left",
        {"path": at("quota/changed"), "name_quota": 200},
        [make("quota/changed", name_quota=100, space_quota="1t")],
        told={at("quota/changed"): f"names 200 space {1 << 40}"},
    ),
    Case(
        "quotas are lifted",
        {"path": at("quota/lifted"), "name_quota": "none", "space_quota": "none"},
        [make("quota/lifted", name_quota=100, space_quota="1t")],
        told={at("quota/lifted"): "names none space none"},
    ),
    Case(
        "no quota is no change",
        {"path": at("quota/none"), "name_quota": "none"},
        [make("quota/none")],
        changed=False,
        told={at("quota/none"): "names none space none"},
    ),
    Case(
        "an exceeded name quota",
        {"path": at("quota/full/more")},
        [make("quota/full", name_quota=1)],
        fails="a quota would be exceeded",
        foreseen=False,
        told={at("quota/full"): "names 1 space none"},
    ),
    Case("a quota of nothing", {"path": at("q"), "name_quota": 0}, fails="is no quota"),
    Case("an unknown unit", {"path": at("q"), "space_quota": "10x"}, fails="is no quota"),
    Case(
        "a file has no quota",
        {"path": at("q"), "state": "file", "name_quota": 5},
        fails="for directories",
    ),
    # Policies
    Case(
        "a storage policy",
        {"path": at("policy/cold"), "storage_policy": "COLD"},
        told={at("policy/cold"): "COLD"},
    ),
    Case(
        "a storage policy is taken back",
        {"path": at("policy/none"), "storage_policy": "none"},
        [make("policy/none", storage_policy="COLD")],
        told={at("policy/none"): "unspecified"},
    ),
    Case(
        "an inherited storage policy is enough",
        {"path": at("policy/heir/child"), "storage_policy": "COLD"},
        [make("policy/heir", storage_policy="COLD"), make("policy/heir/child")],
        changed=False,
        told={at("policy/heir/child"): "COLD"},
    ),
    Case(
        "an unknown storage policy",
        {"path": at("policy/unknown"), "storage_policy": "WARMISH"},
        fails="there is no storage policy 'WARMISH'",
    ),
    Case(
        "an erasure coding policy",
        {"path": at("ec/xor"), "ec_policy": "RS-6-3-1024k"},
        told={at("ec/xor"): "RS-6-3-1024k"},
    ),
    Case(
        "an erasure coding policy is taken back",
        {"path": at("ec/none"), "ec_policy": "none"},
        [make("ec/none", ec_policy="RS-6-3-1024k")],
        told={at("ec/none"): "unspecified"},
    ),
    Case(
        "a disabled erasure coding policy",
        {"path": at("ec/disabled"), "ec_policy": "RS-10-4-1024k"},
        fails="RS-10-4-1024k is disabled",
        then={at("ec/disabled"): None},
    ),
    Case(
        "a storage policy outlives new content",
        {"path": at("policy/file"), "state": "file", "content": "new", "storage_policy": "COLD"},
        [make("policy/file", state="file", content="old", storage_policy="COLD")],
        told={at("policy/file"): "COLD"},
    ),
    Case(
        "storage policies below one that changes",
        {
            "paths": [
                {"path": at("policy/up"), "storage_policy": "HOT"},
                {"path": at("policy/up/heir"), "storage_policy": "COLD"},
                {"path": at("policy/up/own"), "storage_policy": "none"},
                {"path": at("policy/up/own/new"), "storage_policy": "HOT"},
            ]
        },
        [
            make("policy/up", storage_policy="COLD"),
            make("policy/up/heir"),
            make("policy/up/own", storage_policy="WARM"),
        ],
        told={at("policy/up/heir"): "COLD", at("policy/up/own"): "HOT"},
    ),
    Case(
        "erasure coding policies below one that changes",
        {
            "paths": [
                {"path": at("ec/up"), "ec_policy": "none"},
                {"path": at("ec/up/heir"), "ec_policy": "none"},
                {"path": at("ec/up/kept"), "ec_policy": "RS-6-3-1024k"},
            ]
        },
        [make("ec/up", ec_policy="RS-6-3-1024k"), make("ec/up/heir"), make("ec/up/kept")],
        told={at("ec/up/heir"): "unspecified", at("ec/up/kept"): "RS-6-3-1024k"},
    ),
    Case(
        "no such erasure coding policy",
        {"path": at("ec/unknown"), "ec_policy": "RS-1-1"},
        fails="there is no erasure coding policy 'RS-1-1'",
        then={at("ec/unknown"): None},
    ),
    # Snapshots
    Case(
        "a snapshottable directory",
        {"path": at("snap/on"), "snapshottable": True},
        told={at("snap/on"): "snapshottable"},
    ),
    Case(
        "no longer snapshottable",
        {"path": at("snap/off"), "snapshottable": False},
        [make("snap/off", snapshottable=True)],
        told={at("snap/off"): ""},
    ),
    Case(
        "a snapshot with its directory",
        {
            "paths": [
                {"path": at("snap/taken"), "snapshottable": True},
                {"path": at("snap/taken/.snapshot/one")},
            ]
        },
        then={at("snap/taken/.snapshot/one"): "directory 755 hdfs"},
    ),
    Case(
        "a snapshot is deleted",
        {"path": at("snap/gone/.snapshot/one"), "state": "absent"},
        [make("snap/gone", snapshottable=True), make("snap/gone/.snapshot/one")],
        then={at("snap/gone/.snapshot/one"): None},
    ),
    Case(
        "no snapshot where none may be taken",
        {"path": at("snap/not/.snapshot/one")},
        [make("snap/not")],
        fails="is not snapshottable",
    ),
    # ACLs
    Case(
        "the mode beside an ACL is that of the group",
        {"path": at("acl/group"), "mode": "0700"},
        [
            make("acl/group", mode="0750"),
            let("acl/group", "user:alice:rwx"),
        ],
        # What stat shows is the mask, which still lets alice in.
        then={at("acl/group"): "directory 770 hdfs"},
    ),
    Case(
        "an ACL is no change of mode",
        {"path": at("acl/same"), "mode": "0750"},
        [
            make("acl/same", mode="0750"),
            let("acl/same", "user:alice:rwx"),
        ],
        changed=False,
    ),
    Case(
        "a default ACL does not change a wanted mode",
        {"path": at("acl/heir/child"), "mode": "0711"},
        [
            make("acl/heir"),
            let("acl/heir", "default:other::---"),
        ],
        then={at("acl/heir/child"): "directory 711 hdfs"},
    ),
    Case(
        "nor that of a new file",
        {"path": at("acl/heir2/file"), "state": "file", "content": "x", "mode": "0644"},
        [
            make("acl/heir2"),
            let("acl/heir2", "default:user:bob:rwx"),
        ],
    ),
    Case(
        "a new directory with its ACL",
        {
            "path": at("acl/new"),
            "owner": "bob",
            "mode": "1750",
            "acl": ["user:alice:rwx,group:staff:--x", "default:user:alice:rX"],
        },
        told={
            at("acl/new"): "flags: user::rwx user:alice:rwx group::r-x group:staff:--x mask::rwx"
            " other::--- default:user::rwx default:user:alice:r-x default:group::r-x"
            " default:mask::r-x default:other::---"
        },
    ),
    Case(
        "one alike, by hdfs_acl, is no change",
        {"path": at("acl/alike"), "mode": "0750", "acl": ["user:alice:rwx", "mask::r-x"]},
        [
            make("acl/alike", mode="0750"),
            let("acl/alike", "user:alice:rwx", "mask::r-x", state="exact"),
        ],
        changed=False,
    ),
    Case(
        "what is no longer listed goes, and a changed mode with it",
        {"path": at("acl/less"), "mode": "0770", "acl": ["user:alice:r-x"]},
        [
            make("acl/less", mode="0700"),
            let("acl/less", "user:alice:rwx", "user:bob:rwx", "default:user:bob:rwx"),
        ],
        told={at("acl/less"): "user::rwx user:alice:r-x group::rwx mask::rwx other::---"},
    ),
    Case(
        "default entries stay beside access entries that change",
        {"path": at("acl/default"), "acl": ["user:bob:--x", "default:user:bob:rwx"]},
        [make("acl/default", mode="0700"), let("acl/default", "default:user:bob:rwx")],
        told={
            at("acl/default"): "user::rwx user:bob:--x group::--- mask::--x other::---"
            " default:user::rwx default:user:bob:rwx default:group::--- default:mask::rwx"
            " default:other::---"
        },
    ),
    Case(
        "an empty list leaves the mode",
        {"path": at("acl/none"), "acl": []},
        [
            make("acl/none", mode="1750"),
            let("acl/none", "user:alice:rwx", "default:user:alice:rwx"),
        ],
        told={at("acl/none"): "flags: user::rwx group::r-x other::---"},
    ),
    Case(
        "no list leaves the ACL",
        {"path": at("acl/left"), "owner": "bob"},
        [make("acl/left", mode="0750"), let("acl/left", "user:alice:rwx")],
        told={at("acl/left"): "user::rwx user:alice:rwx group::r-x mask::rwx other::---"},
    ),
    Case(
        "nothing is inherited by what has a list",
        {
            "paths": [
                {"path": at("acl/above"), "mode": "0750", "acl": ["default:user:bob:rwx"]},
                {"path": at("acl/above/bare"), "mode": "0700", "acl": []},
                {"path": at("acl/above/own"), "mode": "0700", "acl": ["user:alice:r-x"]},
                {
                    "path": at("acl/above/file"),
                    "state": "file",
                    "content": "x",
                    "mode": "0600",
                    "acl": [],
                },
            ]
        },
        told={
            at("acl/above/bare"): "user::rwx group::--- other::---",
            at("acl/above/own"): "user::rwx user:alice:r-x group::--- mask::r-x other::---",
            at("acl/above/file"): "user::rw- group::--- other::---",
        },
    ),
    Case(
        "a directory that was made on the way to another",
        {
            "paths": [
                {"path": at("acl/way/x")},
                {"path": at("acl/way"), "mode": "0700", "acl": ["user:alice:r-x"]},
            ]
        },
        told={at("acl/way"): "user::rwx user:alice:r-x group::--- mask::r-x other::---"},
    ),
    Case(
        "a recursive mode from above leaves it",
        {
            "paths": [
                {"path": at("acl/tree/in"), "acl": ["user:alice:r-x"]},
                {"path": at("acl/tree"), "mode": "g-rwx,o=", "recursive": True},
            ]
        },
        [make("acl/tree/in", mode="0770")],
        # The first run has left the mask as wide as the mode was.
        steady=False,
        told={at("acl/tree/in"): "user::rwx user:alice:r-x group::--- mask::r-x other::---"},
    ),
    Case(
        "a new file with its ACL",
        {
            "path": at("acl/file"),
            "state": "file",
            "content": "x",
            "mode": "0640",
            "acl": ["user:alice:rwX", "group:staff:r--"],
        },
        told={
            at("acl/file"): "user::rw- user:alice:rw- group::r-- group:staff:r-- mask::rw-"
            " other::---"
        },
    ),
    Case(
        "new content with another ACL",
        {
            "path": at("acl/file2"),
            "state": "file",
            "content": "new",
            "acl": ["user:alice:r--"],
        },
        [
            make("acl/file2", state="file", content="old", mode="0600"),
            let("acl/file2", "user:bob:rw-"),
        ],
        told={at("acl/file2"): "user::rw- user:alice:r-- group::--- mask::r-- other::---"},
    ),
    Case(
        "new content without the ACL",
        {"path": at("acl/file3"), "state": "file", "content": "new", "acl": []},
        [
            make("acl/file3", state="file", content="old", mode="0600"),
            let("acl/file3", "user:bob:rw-"),
        ],
        told={at("acl/file3"): "user::rw- group::--- other::---"},
    ),
    Case(
        "the mode's own entries are refused",
        {"path": at("acl/x"), "acl": ["user:alice:r-x", "other::r-x"]},
        fails="other::r-x: give what owner, group and others may do as mode",
    ),
    Case(
        "a file's default entries are refused",
        {"path": at("acl/y"), "state": "touch", "acl": ["default:user:alice:r-x"]},
        fails="only directories have default entries",
    ),
]


TOP_STEP = {"path": TOP, "group": "hdfs", "mode": "0755"}


def play(execute, shell):
    """All the runs of all the cases, and then what HDFS itself says of each path."""
    shell(f"{HDFS} ec -enablePolicy -policy RS-6-3-1024k")
    # As HDFS has it, what is made belongs to the group of the directory that it is in.
    top = Case("top", TOP_STEP, [(PATH, TOP_STEP)])
    results = four_runs(execute, PATH, [top, *CASES])
    listed = shell(f"{HDFS} dfs -ls -R {TOP}")
    listed += shell(f"{HDFS} dfs -ls {at('snap/taken/.snapshot')}")
    return results, described(listed), told(shell), digests(shell)


def told(shell):
    """{path: words} of quotas, policies, and whether snapshots may be taken."""
    found = {}
    for line in shell(f"{HDFS} dfs -count -q '{TOP}/quota/*'").splitlines():
        names, _left, space, *_rest, path = line.split()
        found[path] = f"names {names} space {space}"
    asked = {path for case in CASES for path in case.told}
    for command, directory in (
        ("storagepolicies -getStoragePolicy", "policy/"),
        ("ec -getPolicy", "ec/"),
    ):
        for path in sorted(path for path in asked if path.startswith(at(directory))):
            said = shell(f"{HDFS} {command} -path {path}")
            policy = re.search(r"is (unspecified)|BlockStoragePolicy\{(\w+)|^(RS-\S+)$", said, re.M)
            found[path] = next(filter(None, policy.groups()))
    listed = shell(f"{HDFS} lsSnapshottableDir").split()
    for name in ("snap/on", "snap/off"):
        found[at(name)] = "snapshottable" if at(name) in listed else ""
    return found | test_module_hdfs_acl.described(shell(f"{HDFS} dfs -getfacl -R {at('acl')}"))


def digests(shell):
    """{path: SHA-256} of the files as they are read, and of those that they were made of."""
    named = {case.args["src"] for case in CASES if "src" in case.args and case.fails is None}
    lines = shell(
        f"cd $(mktemp -d) && {HDFS} dfs -get {at('f')} {at('acl')} {at('policy')} . &&"
        f" sha256sum {' '.join(named)} $(find f acl policy -type f) && rm -r $PWD"
    ).splitlines()
    found = {}
    for line in lines:
        digest, path = line.split(None, 1)
        found[path if path.startswith("/") else at(path)] = digest
    return found


def described(listed):
    """{path: words} of what `hdfs dfs -ls` has printed."""
    found = {}
    for line in listed.splitlines():
        fields = line.split(None, 7)
        if len(fields) == 8:
            letters, copies, owner, group, length, _day, _time, path = fields
            kind = "directory" if letters[0] == "d" else "regular file"
            found[path] = f"{kind} {octal(letters[1:10])} {owner} {group} {length} {copies}"
    return found


def octal(letters):
    """A mode as ls prints it, in digits without a leading zero."""
    bits = 0o1000 if letters[8] in "tT" else 0
    for place, letter in enumerate(letters):
        if letter not in "-T":
            bits |= 0o400 >> place
    return f"{bits:o}"


@pytest.fixture(scope="module")
def outcome(cluster, daemon_key):
    root = daemon_key("namenode", "hdfs", "nn")
    root.ok(f"{HDFS} dfs -rm -r -f -skipTrash {TOP}")
    defaults = {"endpoints": [cluster.web()["namenode"]]}
    yield play(on_lab(cluster.hosts("namenode")[0], defaults), root.ok)
    root.ok(f"{HDFS} dfs -deleteSnapshot {at('snap/taken')} one")
    root.ok(f"{HDFS} dfs -rm -r -f -skipTrash {TOP}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case, outcome):
    results, found, more, contents = outcome
    verify(case, results[case.name])
    assert {path: more[path] for path in case.told} == case.told
    if case.fails is None and "content" in case.args:
        wanted = hashlib.sha256(str(case.args["content"]).encode()).hexdigest()
        assert contents[case.args["path"]] == wanted
    if case.fails is None and "src" in case.args:
        assert contents[case.args["path"]] == contents[case.args["src"]]
    for path, words in case.then.items():
        if words is None:
            assert path not in found
        else:
            assert found.get(path, "").startswith(words), found.get(path)
