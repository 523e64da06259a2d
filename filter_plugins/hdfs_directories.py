"""Pure functions of users.yml: what its people and directories are on HDFS."""

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


def without_acl(directories):
    """The directories as hdfs_path takes them."""
    return [{k: v for k, v in item.items() if k != "acl"} for item in directories]


def only_acl(directories):
    """The ACLs of the directories that have any, for hdfs_acl."""
    return [{"path": item["path"], "acl": item["acl"]} for item in directories if "acl" in item]


class FilterModule:
    """The filters, under the names that roles use."""

    def filters(self):
        return {"hdfs_homes": hdfs_homes, "only_acl": only_acl, "without_acl": without_acl}
