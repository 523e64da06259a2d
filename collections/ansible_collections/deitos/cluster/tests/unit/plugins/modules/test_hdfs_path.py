"""hdfs_path on an HDFS in memory: what it asks for, in which order. The lab has a real one."""

from __future__ import annotations

import copy
import sys
import threading
from pathlib import Path

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import hdfs_entries, webhdfs
from ansible_collections.deitos.cluster.plugins.modules import hdfs_path

sys.path.insert(0, str(Path(__file__).parents[1] / "module_utils"))
from in_memory import InMemory

STORAGE = {"HOT": 7, "WARM": 5, "COLD": 2}
EC = {"RS-6-3-1024k": "ENABLED", "XOR-2-1-1024k": "ENABLED", "RS-10-4-1024k": "DISABLED"}


class Memory(InMemory):
    """As much of HDFS as paths with owners, modes and policies need."""

    def __init__(self):
        self.paths = {"/": self._node("DIRECTORY", "755")}
        self.contents = {}
        self.acls = {}
        # Of the path itself; below it, they are inherited.
        self.storage = {}
        self.ec = {}
        self.attributes = {}
        self.requests = []
        self.fail_on = None
        self.lock = threading.Lock()

    @staticmethod
    def _node(kind, permission):
        return {
            "type": kind,
            "permission": permission,
            "owner": "hdfs",
            "group": "hdfs",
            "length": 0,
            "replication": 3 if kind == "FILE" else 0,
            "modificationTime": 1,
        }

    def status(self, path):
        self.requests.append(("GETFILESTATUS", path))
        return self._described(path) if path in self.paths else None

    def _described(self, path):
        return {
            **self.paths[path],
            "childrenNum": len(self._children(path)),
            "storagePolicy": self.in_force(self.storage, path) or 0,
            "ecPolicy": self.in_force(self.ec, path),
            "aclBit": path in self.acls,
        }

    def in_force(self, policies, path):
        while path not in policies and path != "/":
            path = webhdfs.parent_of(path)
        return policies.get(path)

    def _children(self, path):
        return [other for other in self.paths if other != "/" and webhdfs.parent_of(other) == path]

    def listing(self, path):
        self.requests.append(("LISTSTATUS", path))
        return {child.rsplit("/", 1)[1]: self._described(child) for child in self._children(path)}

    def acls_of(self, paths):
        return self.map(self.acl, paths)

    def acl(self, path):
        self.requests.append(("GETACLSTATUS", path))
        return self.acls[path]

    def create(self, path, body, **parameters):
        self.requests.append(("CREATE", path))
        data = body if isinstance(body, bytes) else body.read()
        node = {**self._node("FILE", parameters["permission"]), "length": len(data)}
        self.paths[path] = node
        self.contents[path] = data

    def read(self, path):
        self.requests.append(("OPEN", path))
        yield self.contents[path]

    def get(self, path, op, **_parameters):
        if op == "GETALLSTORAGEPOLICY":
            found = [{"name": name, "id": number} for name, number in STORAGE.items()]
            return {"BlockStoragePolicies": {"BlockStoragePolicy": found}}
        if op == "GETECPOLICIES":
            found = [{"policy": {"name": name}, "state": state} for name, state in EC.items()]
            return {"ErasureCodingPolicies": {"ErasureCodingPolicyInfo": found}}
        assert op == "GETXATTRS"
        found = self.attributes.get(path, {})
        return {"XAttrs": [{"name": name, "value": value} for name, value in found.items()]}

    def put(self, path, op, **parameters):
        return self.call("PUT", path, op, **parameters)

    def call(self, _method, path, op, **parameters):
        with self.lock:
            self.requests.append((op, path))
            if self.fail_on == (op, path):
                raise webhdfs.PermissionDenied("HDFS refuses")
            if op == "MKDIRS":
                assert webhdfs.parent_of(path) in self.paths, "a parent would be made in passing"
                self.paths[path] = self._node("DIRECTORY", parameters["permission"])
            elif op == "SETOWNER":
                self.paths[path].update(parameters)
            elif op == "SETPERMISSION":
                self.paths[path]["permission"] = parameters["permission"]
            elif op == "SETACL":
                entries = hdfs_entries.parse([parameters["aclspec"]])
                self.acls[path] = hdfs_entries.as_status(entries)
                self.paths[path]["permission"] = self.acls[path]["permission"]
                if not self.acls[path]["entries"]:
                    del self.acls[path]
            elif op == "SETREPLICATION":
                self.paths[path]["replication"] = parameters["replication"]
            elif op == "RENAME":
                target = parameters["destination"]
                self.paths[target] = self.paths.pop(path)
                self.contents[target] = self.contents.pop(path)
                for own in (self.storage, self.attributes, self.acls):
                    own.pop(target, None)
                    if path in own:
                        own[target] = own.pop(path)
            elif op == "SETSTORAGEPOLICY":
                self.storage[path] = STORAGE[parameters["storagepolicy"]]
            elif op == "UNSETSTORAGEPOLICY":
                self.storage.pop(path, None)
            elif op == "SETECPOLICY":
                assert EC[parameters["ecpolicy"]] == "ENABLED"
                self.ec[path] = parameters["ecpolicy"]
            elif op == "UNSETECPOLICY":
                if path not in self.ec:
                    raise webhdfs.RemoteProblem("none is set", "NoECPolicySetException")
                del self.ec[path]
            elif op == "SETXATTR":
                own = self.attributes.setdefault(path, {})
                own[parameters["xattr.name"]] = parameters["xattr.value"]
            elif op == "DELETE":
                inside = [p for p in self.paths if p == path or p.startswith(path + "/")]
                for gone in inside:
                    del self.paths[gone]
                return {"boolean": bool(inside)}
            return {}

    def changes(self):
        """The requests that change something."""
        reading = ("GETFILESTATUS", "LISTSTATUS", "GETACLSTATUS", "OPEN")
        return [request for request in self.requests if request[0] not in reading]


@pytest.fixture
def hdfs(monkeypatch):
    hdfs = Memory()
    monkeypatch.setattr(webhdfs, "connect", lambda _module: hdfs)
    return hdfs


def seen(hdfs, path):
    node = hdfs.paths[path]
    return node["permission"], node["owner"], node["group"]


def test_every_missing_level_is_made_with_its_own_mode(hdfs, four_runs):
    done = four_runs(hdfs_path, path="/a/b/c", mode="0700", owner="alice", parents_mode="0711")
    assert done["changed_paths"] == ["/a", "/a/b", "/a/b/c"]
    assert seen(hdfs, "/a") == seen(hdfs, "/a/b") == ("711", "hdfs", "hdfs")
    assert seen(hdfs, "/a/b/c") == ("700", "alice", "hdfs")


def test_check_mode_asks_for_no_change(hdfs, run_module):
    before = copy.deepcopy(hdfs.paths)
    result = run_module(
        hdfs_path,
        check=True,
        paths=[{"path": "/a/b"}, {"path": "/f", "state": "file", "content": "x"}],
    )
    assert result["changed"] and hdfs.changes() == [] and hdfs.paths == before


def test_only_what_differs_is_changed(hdfs, four_runs):
    hdfs.paths["/a"] = {**hdfs._node("DIRECTORY", "700"), "owner": "alice"}
    done = four_runs(hdfs_path, path="/a", owner="alice", group="staff", mode="0700")
    assert hdfs.changes() == [("SETOWNER", "/a")]
    assert done["diff"] == [
        {
            "before": {"group": "hdfs"},
            "after": {"group": "staff"},
            "before_header": "/a",
            "after_header": "/a",
        }
    ]


def test_a_thousand_paths_are_looked_up_in_two_requests(hdfs, run_module):
    hdfs.paths["/user"] = hdfs._node("DIRECTORY", "755")
    paths = [{"path": f"/user/u{n}", "mode": "0700"} for n in range(1000)]
    assert len(run_module(hdfs_path, paths=paths)["changed_paths"]) == 1000
    hdfs.requests.clear()
    assert not run_module(hdfs_path, paths=paths)["changed"]
    assert hdfs.requests == [("GETFILESTATUS", "/user"), ("LISTSTATUS", "/user")]


def test_a_thousand_acls_are_set_and_looked_up_with_their_paths(hdfs, run_module):
    hdfs.paths["/user"] = hdfs._node("DIRECTORY", "755")
    paths = [{"path": f"/user/u{n}", "mode": "0750", "acl": ["user:a:r-x"]} for n in range(1000)]
    assert len(run_module(hdfs_path, paths=paths)["changed_paths"]) == 1000
    assert hdfs.acls["/user/u7"]["entries"] == ["user:a:r-x", "group::r-x"]
    assert len(hdfs.changes()) == 2000
    hdfs.requests.clear()
    assert not run_module(hdfs_path, paths=paths)["changed"]
    asked = [("GETACLSTATUS", item["path"]) for item in paths]
    assert hdfs.requests[:2] == [("GETFILESTATUS", "/user"), ("LISTSTATUS", "/user")]
    assert sorted(hdfs.requests[2:]) == sorted(asked)


def test_an_acl_and_its_diff(hdfs, four_runs):
    hdfs.paths["/d"] = hdfs._node("DIRECTORY", "750")
    hdfs.put("/d", "SETACL", aclspec="user::rwx,group::r-x,other::---,user:old:rwx,mask::rwx")
    hdfs.requests.clear()
    done = four_runs(hdfs_path, path="/d", acl=["user:a:r-x"])
    assert hdfs.changes() == [("SETACL", "/d")]
    assert done["changes"] == [{"path": "/d", "actions": ["acl"]}]
    assert done["diff"][0]["before"] == {"acl": ["user:old:rwx", "mask::rwx"]}
    assert done["diff"][0]["after"] == {"acl": ["user:a:r-x", "mask::r-x"]}


def test_a_file_has_its_acl_before_it_is_in_its_place(hdfs, four_runs):
    four_runs(hdfs_path, path="/f", state="file", content="x", mode="0640", acl=["user:a:rw-"])
    assert hdfs.acls["/f"] == {"permission": "660", "entries": ["user:a:rw-", "group::r--"]}
    assert [op for op, _path in hdfs.changes()] == ["CREATE", "SETACL", "RENAME"]


def test_the_root_among_others(hdfs, four_runs):
    paths = [{"path": "/"}, *({"path": f"/{name}", "mode": "0700"} for name in "abcde")]
    assert four_runs(hdfs_path, paths=paths)["changed_paths"] == ["/a", "/b", "/c", "/d", "/e"]


def test_a_server_without_a_root_is_refused(hdfs, run_module):
    hdfs.paths.clear()
    result = run_module(hdfs_path, path="/a/b")
    assert result["failed"] and "no root directory" in result["msg"]


def test_a_file_is_written_beside_its_place(hdfs, four_runs):
    done = four_runs(hdfs_path, path="/d/f", state="file", content="new", mode="0640", owner="bob")
    assert hdfs.contents == {"/d/f": b"new"}
    assert seen(hdfs, "/d/f") == ("640", "bob", "hdfs")
    operations = [op for op, _path in hdfs.changes()]
    assert operations == ["MKDIRS", "CREATE", "SETOWNER", "RENAME"]
    assert done["diff"][-2]["after"] == "new"


def test_a_failed_write_leaves_nothing_behind(hdfs, run_module, monkeypatch):
    hdfs.paths["/f"] = {**hdfs._node("FILE", "644"), "length": 3}
    hdfs.contents["/f"] = b"old"
    plain = Memory.put

    def put(self, path, op, **parameters):
        if op == "RENAME":
            raise webhdfs.QuotaExceeded("a quota would be exceeded")
        return plain(self, path, op, **parameters)

    monkeypatch.setattr(Memory, "put", put)
    result = run_module(hdfs_path, path="/f", state="file", content="new")
    assert result["failed"] and "quota" in result["msg"] and not result["changed"]
    assert set(hdfs.paths) == {"/", "/f"} and hdfs.contents["/f"] == b"old"


def test_new_content_keeps_owner_and_mode(hdfs, four_runs):
    hdfs.paths["/f"] = {**hdfs._node("FILE", "600"), "owner": "bob", "length": 3}
    hdfs.contents["/f"] = b"old"
    four_runs(hdfs_path, path="/f", state="file", content="longer")
    assert seen(hdfs, "/f") == ("600", "bob", "hdfs") and hdfs.contents["/f"] == b"longer"


def test_new_content_keeps_storage_policy_and_attributes(hdfs, four_runs):
    for path in ("/inherits", "/own"):
        hdfs.paths[path] = {**hdfs._node("FILE", "600"), "length": 3}
        hdfs.contents[path] = b"old"
    attributes = {"user.origin": "0x61", "trusted.t": None}
    hdfs.attributes["/own"] = {**attributes, hdfs_path.RECORD: "0x62"}
    hdfs.storage = {"/": STORAGE["WARM"], "/own": STORAGE["COLD"]}
    paths = [
        {"path": "/inherits"},
        {"path": "/own", "storage_policy": "COLD"},
    ]
    four_runs(hdfs_path, paths=paths, state="file", content="longer")
    assert hdfs.storage == {"/": STORAGE["WARM"], "/own": STORAGE["COLD"]}
    assert hdfs.attributes == {"/own": attributes}


def test_new_content_under_a_policy_that_changes(hdfs, four_runs):
    hdfs.paths["/a"] = hdfs._node("DIRECTORY", "755")
    for path in ("/a/inherits", "/a/own"):
        hdfs.paths[path] = {**hdfs._node("FILE", "600"), "length": 3}
        hdfs.contents[path] = b"old"
    hdfs.storage = {"/a": STORAGE["COLD"], "/a/own": STORAGE["COLD"]}
    file = {"state": "file", "content": "longer"}
    paths = [
        {"path": "/a", "storage_policy": "HOT"},
        {"path": "/a/inherits", **file},
        {"path": "/a/own", **file},
    ]
    four_runs(hdfs_path, paths=paths)
    assert hdfs.storage == {"/a": STORAGE["HOT"], "/a/own": STORAGE["COLD"]}


KINDS = {
    "storage_policy": ("storage", "COLD", "HOT", STORAGE),
    "ec_policy": ("ec", "RS-6-3-1024k", "XOR-2-1-1024k", {name: name for name in EC}),
}


@pytest.mark.parametrize("option", KINDS)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("below", ["first", "other", "none"])
def test_a_policy_under_one_that_changes(hdfs, four_runs, option, own, there, below):
    kind, first, other, values = KINDS[option]
    policies = getattr(hdfs, kind)
    hdfs.paths["/a"] = hdfs._node("DIRECTORY", "755")
    policies["/a"] = values[first]
    if there:
        hdfs.paths["/a/b"] = hdfs._node("DIRECTORY", "755")
        if own:
            policies["/a/b"] = values[first]
    wanted = {"first": first, "other": other, "none": "none"}[below]
    paths = [
        {"path": "/a", option: other},
        {"path": "/a/b", option: wanted},
        {"path": "/a/b/c", option: wanted},
    ]
    four_runs(hdfs_path, paths=paths)
    in_force = values[first if below == "first" else other]
    assert hdfs.in_force(policies, "/a") == values[other]
    assert hdfs.in_force(policies, "/a/b") == hdfs.in_force(policies, "/a/b/c") == in_force


def test_an_inherited_policy_is_enough(hdfs, run_module):
    hdfs.paths["/a"] = hdfs._node("DIRECTORY", "755")
    hdfs.paths["/a/b"] = hdfs._node("DIRECTORY", "755")
    hdfs.storage["/a"], hdfs.ec["/a"] = STORAGE["COLD"], "RS-6-3-1024k"
    for policies in (("COLD", "RS-6-3-1024k"), ("none", "none")):
        named = dict(zip(KINDS, policies))
        assert not run_module(hdfs_path, path="/a/b", **named)["changed"]


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"storage_policy": "WARMISH"}, "COLD, HOT, WARM"),
        ({"ec_policy": "RS-10-4-1024k"}, "is disabled: enable it with 'hdfs ec -enablePolicy"),
        ({"ec_policy": "RS-1-1"}, "there is no erasure coding policy 'RS-1-1'"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_before_anything(
    hdfs, run_module, check, options, reason
):
    result = run_module(
        hdfs_path, check=check, paths=[{"path": "/a/b", **options}, {"path": "/a/c", "mode": "700"}]
    )
    assert result["failed"] and reason in result["msg"]
    # What the refused one would have made on its way is made for the other.
    assert result["changed_paths"] == ["/a", "/a/c"] and "/a/b" not in hdfs.paths


def test_a_file_that_is_read_in_part_is_no_different_one(hdfs, run_module):
    hdfs.paths["/f"] = {**hdfs._node("FILE", "600"), "length": 7}
    hdfs.contents["/f"] = b"old"
    result = run_module(hdfs_path, path="/f", state="file", content="content")
    assert result["failed"] and "3 bytes were read of 7" in result["msg"]
    assert hdfs.changes() == []


def test_one_failure_hides_no_other(hdfs, run_module):
    hdfs.fail_on = ("MKDIRS", "/bad")
    result = run_module(
        hdfs_path,
        paths=[{"path": "/bad"}, {"path": "/bad/in/it"}, {"path": "/good"}],
    )
    assert result["failed"] and result["changed_paths"] == ["/good"]
    assert [error["path"] for error in result["errors"]] == ["/bad", "/bad/in/it", "/bad/in/it"]
    assert "not tried, because /bad failed" in result["msg"]


def test_a_path_that_fails_half_way_has_changed(hdfs, run_module):
    hdfs.fail_on = ("SETOWNER", "/new")
    result = run_module(hdfs_path, path="/new", owner="alice")
    assert result["failed"] and result["changed"] and result["changed_paths"] == []
    hdfs.fail_on = ("MKDIRS", "/other")
    result = run_module(hdfs_path, path="/other", owner="alice")
    assert result["failed"] and not result["changed"]


def test_removed_and_made_anew(hdfs, run_module):
    for path in ("/a", "/a/old"):
        hdfs.paths[path] = hdfs._node("DIRECTORY", "755")
    run_module(
        hdfs_path,
        paths=[{"path": "/a", "state": "absent", "recursive": True}, {"path": "/a/new"}],
    )
    assert set(hdfs.paths) == {"/", "/a", "/a/new"}
    assert [op for op, _path in hdfs.changes()] == ["DELETE", "MKDIRS", "MKDIRS"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"path": "relative"}, "absolute"),
        ({"path": "/x", "mode": 755}, "in quotes"),
        ({"path": "/x", "mode": "rwx"}, "neither octal"),
        ({"path": "/x", "parents_mode": "4755"}, "setuid"),
        ({"path": "/x", "content": "x"}, "state=file only"),
        ({"path": "/x", "state": "file", "content": "x", "src": "/y"}, "exclude each other"),
        ({"path": "/x", "state": "file", "content": ["x"]}, "not a list"),
        ({"path": "/x", "state": "file", "src": "/nowhere/x"}, "cannot be read"),
        ({"path": "/x", "state": "file"}, "neither content nor src"),
        ({"path": "/x", "state": "file", "snapshottable": True}, "for directories"),
        ({"path": "/x", "replication": 0}, "replication must be"),
        ({"path": "/x", "owner": " "}, "owner must not be empty"),
        ({"path": "/x", "acl": ["a:r-x"]}, "is no ACL entry"),
        ({"path": "/x", "acl": ["group::r-x"]}, "as mode"),
        ({"path": "/x", "state": "touch", "acl": ["default:user:a:r-x"]}, "only directories"),
        ({"path": "/x/.snapshot/s", "acl": []}, "has no acl"),
        ({"path": "/x", "name_quota": "-5"}, "is no quota"),
        ({"path": "/x", "space_quota": True}, "is no quota"),
        ({"path": "/", "state": "absent"}, "root directory"),
        ({"path": "/x/.snapshot/s/y"}, "cannot be changed"),
        ({"path": "/x/.snapshot/s", "mode": "0700"}, "has no mode"),
        ({"path": "/x/.snapshot/s"}, "not snapshottable"),
        ({"paths": [{"state": "absent"}]}, "absolute"),
    ],
)
def test_what_is_refused(hdfs, run_module, options, reason):
    result = run_module(hdfs_path, **options)
    assert result["failed"] and reason in result["msg"]
    assert hdfs.changes() == []


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("check", [True, False])
def test_a_snapshot_in_the_call_that_allows_it(hdfs, run_module, there, check):
    if there:
        run_module(hdfs_path, path="/x", owner="alice")
    paths = [{"path": "/x", "owner": "bob", "snapshottable": True}, {"path": "/x/.snapshot/s"}]
    result = run_module(hdfs_path, check=check, paths=paths)
    assert not result["failed"], result["msg"]
    assert result["changed_paths"] == ["/x", "/x/.snapshot/s"]
    done = [("ALLOWSNAPSHOT", "/x"), ("CREATESNAPSHOT", "/x")]
    assert hdfs.changes()[-2:] == done or check


def test_a_path_listed_twice_is_done_once(hdfs, run_module):
    result = run_module(hdfs_path, paths=[{"path": "/x"}, {"path": "/x/", "mode": "0700"}])
    assert result["failed"] and "/x/: this path is listed twice" in result["msg"]
    assert hdfs.changes() == [("MKDIRS", "/x")]


@pytest.mark.parametrize(
    ("text", "number"),
    [(1000, 1000), ("10g", 10 << 30), ("2T", 2 << 40), ("5kb", 5 << 10), ("none", -1), (-1, -1)],
)
def test_quotas(text, number):
    assert hdfs_path.quota(text) == number
