#!/usr/bin/env python3
"""What runs where in the lab, how to reach it, and how long the last converge took."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import lab as tool

WEB = {
    "namenode": ("HDFS", 9871),
    "secondarynamenode": ("HDFS checkpoints", 9869),
    "datanode": ("HDFS blocks", 9865),
    "resourcemanager": ("YARN", 8090),
    "nodemanager": ("YARN containers", 8044),
    "historyserver": ("MapReduce history", 19890),
    "hiveserver2": ("HiveServer2", 10002),
    "spark_history": ("Spark history", 18480),
}


def main() -> int:
    lab = tool.Lab(os.environ.get("LAB") or "deitos")
    if not lab.containers():
        tool.say(f"lab {lab.name} is not up (make cluster)")
        return 1
    inventory = subprocess.run(
        ["ansible-inventory", "--list"], check=True, capture_output=True, text=True
    )
    groups = {
        name: group["hosts"]
        for name, group in json.loads(inventory.stdout).items()
        if "hosts" in group
    }
    print(f"\nLab {lab.name}: domain {lab.domain}, realm {lab.domain.upper()}\n")
    for name, container in sorted(lab.containers().items()):
        networks = container["NetworkSettings"]["Networks"]
        address = networks.get(lab.network, {}).get("IPAddress") or container["State"]["Status"]
        roles = " ".join(group for group, hosts in groups.items() if name in hosts)
        print(f"  {name:8} {address:15} {roles}")
    print("\nWeb UIs, for holders of a Kerberos ticket (SPNEGO):")
    for group, (title, port) in WEB.items():
        for host in groups.get(group, []):
            print(f"  {title:18} https://{lab.fqdn(host)}:{port}")
    for host in groups.get("jupyter", []):
        print(f"\nNotebooks, for everybody who may log in:\n  https://{lab.fqdn(host)}:8443")
    for host in groups.get("llama", []):
        print(
            f"\nThe model server, for holders of a key:\n  https://{lab.fqdn(host)}:11443/v1"
            "  (a model that says nothing of sense)"
        )
    edge = groups.get("edge", sorted(lab.containers()))[0]
    prefix = "" if lab.name == "deitos" else f"LAB={lab.name} "
    print(
        "\nA shell, a ticket and a job:\n"
        f"  {prefix}make ssh HOST={edge}\n"
        "  runuser -u test_user -- bash -l\n"
        "  kinit -kt /etc/security/keytabs/test_user.keytab test_user\n"
        "  hdfs dfs -ls /data/test_user\n"
        "  yarn jar /opt/hadoop/share/hadoop/mapreduce/hadoop-mapreduce-examples-*.jar pi 2 10\n"
        "  beeline -e 'SELECT current_user()'\n"
        "The first password of a person, to be changed at first login, is on the KDC:\n"
        f"  /var/lib/deitos/initial-passwords/alice on {groups['kdc'][0]}"
    )
    times = lab.state / "planes.json"
    if times.exists():
        print("\nThe last converge, in seconds:")
        for plane, seconds in json.loads(times.read_text()).items():
            print(f"  {plane:10} {seconds:6.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
