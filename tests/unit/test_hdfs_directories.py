"""What users.yml means on HDFS."""

from __future__ import annotations

import hdfs_directories

DIRECTORIES = [
    {"path": "/data", "owner": "hdfs", "mode": "0755"},
    {"path": "/data/shared", "group": "analysts", "acl": ["group:analysts:rwx"]},
]


def test_everybody_but_the_absent_has_a_home_of_their_own():
    users = [
        {"name": "alice"},
        {"name": "bob", "state": "disabled"},
        {"name": "carol", "state": "absent"},
        {"name": "dave", "state": "present"},
    ]
    homes = hdfs_directories.hdfs_homes(users, "0700")
    assert [home["path"] for home in homes] == ["/user/alice", "/user/bob", "/user/dave"]
    assert homes[0] == {"path": "/user/alice", "owner": "alice", "group": "alice", "mode": "0700"}


def test_directories_and_their_acls_go_to_different_modules():
    assert hdfs_directories.without_acl(DIRECTORIES) == [
        {"path": "/data", "owner": "hdfs", "mode": "0755"},
        {"path": "/data/shared", "group": "analysts"},
    ]
    assert hdfs_directories.only_acl(DIRECTORIES) == [
        {"path": "/data/shared", "acl": ["group:analysts:rwx"]}
    ]
    assert "acl" in DIRECTORIES[1]
