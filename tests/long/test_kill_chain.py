"""A first converge killed five times at random tasks still ends in the cluster that was asked for.

Set SEED to repeat a chain. The lab of its own is destroyed before and after.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

from siterun import run_site

ROOT = Path(__file__).resolve().parents[2]

KILLS = 5
SECRETS = {
    "/etc/deitos/pki/keystore.password": "cat {}",
    "/etc/deitos/pki/host.key": "sed 1d {} | head -1",
    "/etc/krb5.keytab": "base64 -w60 {} | tail -2 | head -1",
    "/etc/security/http-secrets/hdfs.secret": "base64 -w60 {} | head -1",
    "/etc/security/http-secrets/yarn.secret": "base64 -w60 {} | head -1",
    "/etc/security/http-secrets/spark.secret": "head -c 60 {}",
}


def planned_tasks():
    listing = subprocess.run(
        ["ansible-playbook", "-i", "inventories/lab", "playbooks/site.yml", "--list-tasks"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    return sum("TAGS:" in line and "play #" not in line for line in listing.stdout.splitlines())


def secrets(cluster):
    """What may never be seen outside the host that owns it."""
    for name in cluster.inventory["_meta"]["hostvars"]:
        for path, command in SECRETS.items():
            found = cluster.machine(name).run(f"test -f {path} && {command.format(path)}")
            if found.rc == 0 and len(found.stdout.strip()) >= 16:
                yield path, found.stdout.strip()
    kdc = cluster.first("kdc")
    for path in kdc.check_output("ls -d /var/lib/deitos/initial-passwords/*").split():
        yield path, kdc.check_output(f"cat {path}").strip()


def test_killed_five_times(machines):
    seed = int(os.environ.get("SEED") or time.time())
    chosen = random.Random(seed)
    total = planned_tasks()
    runs = []
    for number in range(KILLS):
        kill_at = chosen.randint(2, total)
        print(f"seed {seed}: run {number + 1} is killed at task {kill_at} of {total}", flush=True)
        runs.append(run_site(kill_after=kill_at))
        assert not runs[-1].failed, runs[-1].failed
    runs.append(run_site())
    assert (runs[-1].status, runs[-1].failed) == ("successful", [])

    stale = {}
    for name in machines.inventory["_meta"]["hostvars"]:
        states = machines.machine(name).check_output(
            "ls /run/deitos/daemons | sed 's/[.].*//' | sort -u "
            "| xargs /usr/local/libexec/deitos/daemon-digest check"
        )
        stale[name] = states
        assert '"stale"' not in states and '"unknown"' not in states, (name, states)
    assert any("namenode" in states for states in stale.values()), stale

    runs.append(run_site())
    assert (runs[-1].status, runs[-1].failed, runs[-1].changed) == ("successful", [], [])

    found = list(secrets(machines))
    assert len(found) > 15, "the secrets themselves were not found: nothing would be tested"
    for run in runs:
        text = "".join(
            path.read_text(errors="replace") for path in run.artifacts.rglob("*") if path.is_file()
        )
        for path, secret in found:
            assert secret not in text, f"{path} was printed"

    verify = run_site(playbook="playbooks/verify.yml")
    assert (verify.status, verify.failed) == ("successful", [])
