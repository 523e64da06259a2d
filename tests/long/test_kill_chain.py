"""A first converge killed five times at random tasks still ends in the cluster that was asked for.

Set SEED to repeat a chain. The lab of its own is destroyed before and after.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from pathlib import Path

from secretscan import Search
from siterun import run_site
from test_secrets import scan

ROOT = Path(__file__).resolve().parents[2]

KILLS = 5
# Some of what must have been there to be sought.
CONTROLS = (
    "/etc/deitos/ca/ca.key",
    "/etc/deitos/pki/host.key",
    "/etc/deitos/pki/keystore.password",
    "/etc/krb5kdc/stash K/M",
    "/etc/krb5.keytab host/",
    "/etc/security/keytabs/hdfs.keytab nn/",
    "/etc/security/keytabs/yarn.keytab nm/",
    "/etc/security/http-secrets/",
    "/var/lib/deitos/initial-passwords/",
)


def planned_tasks():
    """How many tasks a run has at least: those of the plays that have hosts."""
    listing = subprocess.run(
        [
            *("ansible-playbook", "-i", "inventories/lab", "playbooks/site.yml"),
            *("--list-tasks", "--list-hosts"),
        ],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    plays = listing.stdout.split("\n  play #")[1:]
    # Its own line has tags, too.
    return sum(play.count("TAGS:") - 1 for play in plays if "\n    hosts (0):" not in play)


def shown(runs, secrets):
    """[[secret's name, file]] of what the runs have printed or kept that they must not know."""
    paths = [str(path) for run in runs for path in run.artifacts.rglob("*") if path.is_file()]
    return [*Search(secrets).grep("\0".join(paths).encode())]


def test_killed_five_times(machines):
    seed = int(os.environ.get("SEED") or time.time())
    chosen = random.Random(seed)
    total = planned_tasks()
    runs = []
    for number in range(KILLS):
        # Not among the very last: the run must not be over before it is killed.
        kill_at = chosen.randint(2, total * 9 // 10)
        print(f"seed {seed}: run {number + 1} is killed at task {kill_at} of {total}", flush=True)
        runs.append(run_site(kill_after=kill_at))
        assert (runs[-1].status, runs[-1].failed) == ("canceled", [])
    runs.append(run_site())
    assert (runs[-1].status, runs[-1].failed) == ("successful", [])

    for name in machines.everyone():
        states = json.loads(
            machines.machine(name).check_output(
                "ls /run/deitos/daemons | sed 's/[.].*//' | sort -u "
                "| xargs /usr/local/libexec/deitos/daemon-digest check"
            )
        )
        assert set(states.values()) == {"fresh"}, (name, states)
        assert "hdfs-namenode" in states or name not in machines.hosts("namenode")

    runs.append(run_site())
    assert (runs[-1].status, runs[-1].failed, runs[-1].changed) == ("successful", [], [])

    owned = {
        f"{name}:{secret}": value
        for name in machines.everyone()
        for secret, value in scan(name, "collect").items()
    }
    for kind in CONTROLS:
        assert any(kind in name for name in owned), f"no {kind} was found: it would not be sought"
    assert shown(runs, owned) == []
    # The control: what a run has printed is found.
    assert shown(runs, {"a task": b"Have the keytabs".hex()})

    verify = run_site(playbook="playbooks/verify.yml")
    assert (verify.status, verify.failed) == ("successful", [])
