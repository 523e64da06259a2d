"""Pure functions of users.yml: what its people have on HDFS."""

from __future__ import annotations


def hdfs_homes(users, mode, parent="/user", group=None):
    """A directory of each person's own below the parent, for hdfs_path; absent people have none."""
    return [
        {
            "path": f"{parent}/{user['name']}",
            "owner": user["name"],
            "group": group or user["name"],
            "mode": mode,
        }
        for user in users
        if user.get("state", "present") != "absent"
    ]


class FilterModule:
    """The filters, under the names that roles use."""

    def filters(self):
        return {"hdfs_homes": hdfs_homes}
