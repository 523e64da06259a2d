"""What users.yml means on HDFS."""

from __future__ import annotations

import hdfs_directories


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
