"""Jobs on YARN: a real wordcount, run as its submitter, and kept from everybody else."""

from __future__ import annotations

import random
import re
import time
from collections import Counter

import pytest
from modulerun import RUNS, Step, on_lab

EXAMPLES = "/opt/hadoop/share/hadoop/mapreduce/hadoop-mapreduce-examples-*.jar"
HADOOP = "hadoop"
YARN = "yarn"
HDFS = "hdfs"
WORDS = ["to", "be", "or", "not", "that", "is", "the", "question"]


def application_of(output):
    return re.search(r"application_\d+_\d+", output).group()


@pytest.fixture(scope="module")
def wordcount(test_user):
    """A finished wordcount: its input, its output and its application."""
    chosen = random.Random(20260101)
    words = [chosen.choice(WORDS) for _ in range(2000)]
    lines = "\n".join(" ".join(words[i : i + 20]) for i in range(0, len(words), 20)) + "\n"
    base = "/user/test_user/wordcount"
    test_user.ok(f"{HDFS} dfs -rm -r -f -skipTrash {base}")
    test_user.ok(f"{HDFS} dfs -mkdir -p {base}")
    test_user.ok(f"{HDFS} dfs -put -f - {base}/in.txt", stdin=lines)
    run = test_user.run(f"{HADOOP} jar {EXAMPLES} wordcount {base}/in.txt {base}/out")
    assert run.rc == 0, run.stderr
    found = dict(
        line.split("\t") for line in test_user.ok(f"{HDFS} dfs -cat {base}/out/part-*").splitlines()
    )
    return words, {word: int(n) for word, n in found.items()}, application_of(run.stderr)


def test_wordcount_counts_right(wordcount):
    words, found, _application = wordcount
    assert found == Counter(words)


def test_aggregated_logs_are_the_owners(wordcount, test_user, other_user, admin):
    command = f"{YARN} logs -applicationId {wordcount[2]} -log_files syslog -size 100"
    owned = f"{command} -appOwner test_user"
    for _attempt in range(20):
        if test_user.run(command).rc == 0:
            break
        time.sleep(2)
    assert "LogType" in test_user.ok(command)
    refused = other_user.run(owned)
    assert "LogType" not in refused.stdout
    assert "LogType" in admin.ok(owned)


@pytest.fixture
def running(test_user, cluster):
    """A job of test_user that runs until it is killed."""
    test_user.ok(
        f"setsid -f {HADOOP} jar {EXAMPLES} pi 1 1000000000000 > long_job.log 2>&1 < /dev/null"
    )
    deadline = time.time() + 120
    application = None
    while time.time() < deadline:
        seen = test_user.run("cat long_job.log").stdout
        if re.search(r"map\s+\d+%", seen):
            application = application_of(seen)
            break
        time.sleep(2)
    assert application, seen
    yield application
    test_user.run(f"{YARN} application -kill {application}")


def test_running_job_is_kept_from_others(cluster, running, test_user, other_user, admin):
    """Processes, files, tokens, status and life of a running job belong to its submitter."""
    status = f"{YARN} application -status {running}"
    assert "User : test_user" in test_user.ok(status)
    denied = other_user.run(status)
    assert "Tracking-URL : N/A" in denied.stdout or denied.rc != 0
    refused = other_user.run(f"{YARN} application -kill {running}")
    assert refused.rc != 0 and "test_user" not in refused.stdout

    seen = 0
    owners = set()
    for host in cluster.hosts("nodemanager"):
        machine = cluster.machine(host)
        processes = machine.run("ps -eo user:32,args | grep 'org.apache[.]hadoop.mapred'")
        owners |= {line.split()[0] for line in processes.stdout.splitlines() if "java" in line}
        files = machine.run(
            f"find / -xdev -path '*/appcache/{running}/*' -name container_tokens"
        ).stdout.split()
        for path in files:
            seen += 1
            assert machine.run(f"runuser -u test_user -- test -r {path}").rc == 0
            for user in ("other_user", "nobody", "hdfs"):
                assert machine.run(f"runuser -u {user} -- test -r {path}").rc != 0, (user, path)
    assert owners == {"test_user"}
    assert seen, "no container's tokens were found: nothing was tested"
    admin.ok(f"{YARN} application -kill {running}")
    assert "State : KILLED" in test_user.ok(status)


def test_banned_user_cannot_run_a_job(cluster, daemon_key, wordcount):
    """hdfs may read everything, so its code must not run on workers."""
    refused = daemon_key("namenode", "hdfs", "nn").run(f"{HADOOP} jar {EXAMPLES} pi 1 1")
    assert refused.rc != 0


def test_queue_refuses_who_may_not_administer(test_user, admin):
    command = "mapred queue -showacls"
    assert "ADMINISTER_QUEUE" in admin.ok(command)
    assert "ADMINISTER_QUEUE" not in test_user.ok(command)


def test_what_a_disabled_user_runs_is_ended(cluster, running, test_user):
    """What the site does for those whom users.yml disables, here for test_user."""
    fqdn = cluster.fqdn("resourcemanager")
    args = {
        "users": ["test_user"],
        "endpoints": [cluster.web()["resourcemanager"]],
        "keytab": "/etc/security/keytabs/yarn.keytab",
        "principal": f"rm/{fqdn}",
    }
    runs = on_lab(cluster.hosts("resourcemanager")[0], {})(
        [Step("deitos.cluster.yarn_application", args, check) for check in RUNS]
    )
    assert [run["changed"] for run in runs] == [True, True, False, False], runs
    assert running in [found["id"] for found in runs[1]["applications"]]
    assert "State : KILLED" in test_user.ok(f"{YARN} application -status {running}")
