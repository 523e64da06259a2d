"""A Spark job with a key outlives its ticket and its tokens; one without ends with them.

Tickets last two minutes here, tokens three, and the jobs seven.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from labhosts import account
from siterun import run_site

ROOT = Path(__file__).resolve().parents[2]
JOB = ROOT / "tests/integration/spark_jobs/rounds.py"
SECONDS = 420
OVERRIDES = {
    "hdfs_site_overrides": {
        "dfs.namenode.delegation.token.max-lifetime": 180000,
        "dfs.namenode.delegation.token.renew-interval": 60000,
    }
}


@pytest.fixture(scope="module")
def cluster(machines, tmp_path_factory):
    overrides = tmp_path_factory.mktemp("long") / "overrides.json"
    overrides.write_text(json.dumps(OVERRIDES))
    run = run_site(f"-e @{overrides}")
    assert (run.status, run.failed) == ("successful", [])
    kdc = machines.first("kdc")
    kdc.check_output("kadmin.local -q 'modify_principal -maxlife \"2 minutes\" test_user'")
    yield machines
    kdc.check_output("kadmin.local -q 'modify_principal -maxlife \"1 day\" test_user'")


def state_of(cluster, user, application):
    url = f"{cluster.web()['resourcemanager']}/ws/v1/cluster/apps/{application}"
    return user.curl(url).json()["app"]


def test_a_job_with_a_key_outlives_its_ticket_and_tokens(cluster):
    user = account(cluster, "test_user")
    realm = cluster.realm
    user.ok("mkdir -p long && cat > long/rounds.py", stdin=JOB.read_text())
    keytab = "/etc/security/keytabs/test_user.keytab"
    names = {}
    for name, options in (
        ("key", f"--principal test_user@{realm} --keytab {keytab}"),
        ("ticket", ""),
    ):
        target = f"/user/test_user/long-{name}"
        done = user.run(
            f"hdfs dfs -mkdir -p {target} && spark-submit --deploy-mode cluster {options}"
            " --conf spark.yarn.submit.waitAppCompletion=false --conf spark.yarn.maxAppAttempts=1"
            " --conf spark.dynamicAllocation.maxExecutors=1"
            f" /tmp/long/rounds.py {target} {SECONDS}"
        )
        assert done.rc == 0, done.stderr[-3000:]
        names[name] = next(word for word in done.stderr.split() if word.startswith("application_"))
    deadline = time.monotonic() + SECONDS + 300
    states = {}
    while time.monotonic() < deadline and len(states) < len(names):
        time.sleep(20)
        user.login("test_user", keytab)
        for name, application in names.items():
            found = state_of(cluster, user, application)
            if found["state"] in ("FINISHED", "FAILED", "KILLED"):
                states[name] = found["finalStatus"]
    # The control: what has the ticket's tokens alone ends with them, so they did expire.
    assert states == {"key": "SUCCEEDED", "ticket": "FAILED"}
    rounds = int(user.ok("hdfs dfs -cat /user/test_user/long-key/rounds/part-*"))
    written = user.ok("hdfs dfs -ls -C /user/test_user/long-key").split()
    assert rounds >= SECONDS / 40
    assert len([path for path in written if "/round-" in path]) == rounds
