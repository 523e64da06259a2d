"""HDFS as people use it, and what it refuses them."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from pathlib import Path

import pytest

TEXT = "Alice was beginning to get very tired"


def test_report_shows_every_datanode(cluster, daemon_key):
    report = daemon_key("namenode", "hdfs", "nn").ok("hdfs dfsadmin -report")
    assert f"Live datanodes ({len(cluster.hosts('datanode'))}):" in report


def test_put_and_read_back(test_user):
    test_user.ok("hdfs dfs -ls /data/test_user")
    test_user.ok(f"echo '{TEXT}' > test_put.txt")
    test_user.ok("hdfs dfs -put -f test_put.txt /data/test_user/test.txt")
    assert TEXT in test_user.ok("hdfs dfs -cat /data/test_user/test.txt")


def test_commands_are_on_the_path(test_user):
    assert "Found" in test_user.ok("bash -lc 'hdfs dfs -ls /data'")


def test_block_is_on_both_racks(cluster, daemon_key, test_user):
    test_user.ok(
        f"echo '{TEXT}' | hdfs dfs -D dfs.replication=2 -put -f - /data/test_user/racks.txt"
    )
    found = daemon_key("namenode", "hdfs", "nn").ok(
        "hdfs fsck /data/test_user/racks.txt -files -blocks -racks"
    )
    assert "/rack1/" in found and "/rack2/" in found


@pytest.mark.parametrize("path", ["/data/test_user", "/user/test_user"])
def test_another_user_is_refused(test_user, other_user, path):
    test_user.ok(f"hdfs dfs -ls {path}")
    refused = other_user.run(f"hdfs dfs -ls {path}")
    assert refused.rc != 0 and "Permission denied" in refused.stderr


def test_group_decides_access(test_user, other_user):
    command = "echo x | hdfs dfs -put -f - /data/shared/test_{}.txt"
    test_user.ok(command.format("test_user"))
    refused = other_user.run(command.format("other_user"))
    assert refused.rc != 0 and "Permission denied" in refused.stderr


def test_no_ticket_no_access(test_user, nobody):
    test_user.ok("hdfs dfs -ls /data")
    refused = nobody.run("hdfs dfs -ls /data")
    assert refused.rc != 0 and "TOKEN, KERBEROS" in refused.stderr


def test_simple_authentication_is_refused(test_user, nobody):
    """A client that claims a name without proof gets nothing."""
    test_user.ok("hdfs dfs -ls /data")
    refused = nobody.run(
        "HADOOP_USER_NAME=hdfs hdfs dfs -D hadoop.security.authentication=simple -ls /data"
    )
    assert refused.rc != 0


def test_superuser_calls_are_for_administrators(admin, test_user):
    admin.ok("hdfs dfsadmin -safemode get")
    admin.ok("hdfs dfsadmin -report")
    refused = test_user.run("hdfs dfsadmin -report")
    assert refused.rc != 0 and "Superuser privilege is required" in (
        refused.stdout + refused.stderr
    )


# Over each of these, nobody but administrators may speak, whatever is said.
PROTOCOLS = {
    "refresh.policy": "hdfs dfsadmin -refreshServiceAcl",
    "refresh.callqueue": "hdfs dfsadmin -refreshCallQueue",
    "refresh.user.mappings": "hdfs dfsadmin -refreshUserToGroupsMappings",
    "reconfiguration": "hdfs dfsadmin -reconfig namenode {namenode}:8020 properties",
    "resourcemanager-administration": "yarn rmadmin -refreshQueues",
    "mrhs.admin.refresh": "mapred hsadmin -refreshAdminAcls",
}


@pytest.mark.parametrize("command", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_protocols_of_administrators_are_closed_to_others(cluster, admin, test_user, command):
    command = command.format(namenode=cluster.fqdn("namenode"))
    admin.ok(command)
    refused = test_user.run(command)
    assert refused.rc != 0
    said = "User test_user@.* is not authorized for protocol .*denied by configured ACL"
    assert re.search(said, refused.stdout + refused.stderr), refused


@pytest.fixture(scope="module")
def speak(cluster, tmp_path_factory):
    """A function: what comes of a word over a protocol of workers, spoken by a session."""
    javac = shutil.which("javac")
    if not javac:
        pytest.skip("needs a javac (Debian: default-jdk-headless) where the tests run")
    made = tmp_path_factory.mktemp("java")
    source = Path(__file__).parent / "java/Speak.java"
    subprocess.run([javac, "--release", "11", "-d", str(made), str(source)], check=True)
    program = base64.b64encode((made / "deitos/Speak.class").read_bytes()).decode()
    places = {
        "datanode": f"{cluster.fqdn('namenode')} 8020",
        "nodemanager": f"{cluster.fqdn('resourcemanager')} 8031",
    }

    def spoken(session, role):
        return session.run(
            "d=$(mktemp -d) && mkdir $d/deitos && base64 -d > $d/deitos/Speak.class &&"
            f" HADOOP_CLASSPATH=$d hadoop deitos.Speak {role} {places[role]};"
            " code=$?; rm -r $d; exit $code",
            stdin=program,
        )

    return spoken


@pytest.mark.parametrize(
    ("role", "user", "key", "other_user", "other_key"),
    [("datanode", "hdfs", "dn", "yarn", "nm"), ("nodemanager", "yarn", "nm", "hdfs", "dn")],
)
def test_only_workers_speak_their_protocols(
    speak, daemon_key, admin, role, user, key, other_user, other_key
):
    """Neither administrators nor a worker's other daemon, on the worker's own host."""
    heard = speak(daemon_key(role, user, key), role)
    assert (heard.rc, heard.stdout) == (0, "heard\n"), heard.stderr
    for session in (daemon_key(role, other_user, other_key), admin):
        refused = speak(session, role)
        assert refused.rc == 1, refused.stderr
        assert "is not authorized for protocol" in refused.stdout


def test_worker_keys_hold_no_privilege(admin, daemon_key):
    """Root on a worker is not root of the cluster."""
    admin.ok("hdfs dfsadmin -report")
    admin.ok("yarn rmadmin -getGroups test_user")
    datanode = daemon_key("datanode", "hdfs", "dn")
    nodemanager = daemon_key("nodemanager", "yarn", "nm")
    for session, command in (
        (datanode, "hdfs dfsadmin -report"),
        (datanode, "hdfs dfsadmin -safemode enter"),
        (datanode, "hdfs dfs -ls /user/test_user"),
        (nodemanager, "hdfs dfsadmin -report"),
        (nodemanager, "yarn rmadmin -refreshQueues"),
        (nodemanager, "hdfs dfs -ls /user/test_user"),
    ):
        refused = session.run(command)
        assert refused.rc != 0, f"{command} was allowed to a worker's key:\n{refused.stdout}"


def test_data_transfer_is_encrypted(cluster, test_user):
    """A client that will not encrypt is not served."""
    test_user.ok("hdfs dfs -cat /data/test_user/test.txt")
    configured = test_user.ok("hdfs getconf -confKey dfs.data.transfer.protection")
    assert configured.strip() == "privacy"
    # It would try again, three times, after longer and longer pauses.
    once = "-D dfs.client.max.block.acquire.failures=0 -D dfs.client.retry.window.base=1"
    assert test_user.run(f"hdfs dfs {once} -cat /data/test_user/test.txt").rc == 0
    refused = test_user.run(
        f"hdfs dfs {once} -D dfs.data.transfer.protection=authentication"
        " -cat /data/test_user/test.txt"
    )
    assert refused.rc != 0
    once = "-D ipc.client.connect.max.retries.on.sasl=1"
    assert test_user.run(f"hdfs dfs {once} -ls /data/test_user").rc == 0
    refused = test_user.run(
        f"hdfs dfs {once} -D hadoop.rpc.protection=authentication -ls /data/test_user"
    )
    assert refused.rc != 0


def test_trash_keeps_deleted_files(test_user):
    test_user.ok("echo x | hdfs dfs -put -f - /user/test_user/trashed.txt")
    test_user.ok("hdfs dfs -rm /user/test_user/trashed.txt")
    kept = test_user.ok("hdfs dfs -ls -R /user/test_user/.Trash")
    assert "trashed.txt" in kept
