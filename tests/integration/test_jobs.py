"""Jobs on YARN: a real wordcount, run as its submitter, and kept from everybody else."""

from __future__ import annotations

import json
import random
import re
import shlex
import time
from collections import Counter

import pytest
from siterun import run_site

EXAMPLES = "/opt/hadoop/share/hadoop/mapreduce/hadoop-mapreduce-examples-*.jar"
HADOOP = "hadoop"
YARN = "yarn"
HDFS = "hdfs"
LOCAL, LOGS = "/var/lib/hadoop/yarn/local", "/var/lib/hadoop/yarn/logs"
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


def readable(machine, user, paths):
    """Those of the paths that the user may read."""
    look = 'while IFS= read -r path; do if test -r "$path"; then echo "$path"; fi; done'
    listed = shlex.quote("".join(f"{path}\n" for path in paths))
    return machine.check_output(
        f"printf %s {listed} | runuser -u {user} -- sh -c {shlex.quote(look)}"
    ).splitlines()


def test_running_job_is_kept_from_others(cluster, running, test_user, other_user, admin):
    """Processes, files, tokens, status and life of a running job belong to its submitter."""
    status = f"{YARN} application -status {running}"
    assert "User : test_user" in test_user.ok(status)
    denied = other_user.run(status)
    assert "Tracking-URL : N/A" in denied.stdout or denied.rc != 0
    refused = other_user.run(f"{YARN} application -kill {running}")
    assert refused.rc != 0 and "test_user" not in refused.stdout

    names = set()
    owners = set()
    for host in cluster.hosts("nodemanager"):
        machine = cluster.machine(host)
        processes = machine.run("ps -eo user:32,args | grep 'org.apache[.]hadoop.mapred'")
        owners |= {line.split()[0] for line in processes.stdout.splitlines() if "java" in line}
        # Work directories, scripts, tokens and what was fetched for the job; its logs.
        places = f"{LOCAL}/usercache/test_user/appcache/{running} {LOGS}/{running}"
        files = machine.run(f"find {places} ! -type p").stdout.splitlines()
        names |= {path.rpartition("/")[2] for path in files}
        assert readable(machine, "test_user", files) == files
        for user in ("other_user", "nobody"):
            assert readable(machine, user, files) == [], user
        # The group of the NodeManager's helpers may look at logs, at tokens it may not.
        tokens = [path for path in files if path.endswith("/container_tokens")]
        assert readable(machine, "hdfs", tokens) == []
    assert owners == {"test_user"}
    assert names >= {"container_tokens", "launch_container.sh", "job.xml", "syslog", "tmp"}
    admin.ok(f"{YARN} application -kill {running}")
    assert "State : KILLED" in test_user.ok(status)


def test_banned_user_cannot_run_a_job(cluster, daemon_key, wordcount):
    """hdfs may read everything, so its code must not run on workers, as that of others did."""
    refused = daemon_key("namenode", "hdfs", "nn").run(f"{HADOOP} jar {EXAMPLES} pi 1 1")
    assert refused.rc != 0
    application = application_of(refused.stderr)
    assert f"{application} initialization failed (exitCode=2)" in refused.stderr
    # The helper's word goes to the log alone, and then what it was asked.
    reason = rf"user hdfs is banned\n(.*\n){{1,4}}\[.*, hdfs, hdfs, 0, {application},"
    log = "/var/log/hadoop/yarn/nodemanager.log"
    tails = [
        cluster.machine(host).check_output(f"tail -n 2000 {log}")
        for host in cluster.hosts("nodemanager")
    ]
    assert any(re.search(reason, tail) for tail in tails)


def test_queue_refuses_who_may_not_administer(test_user, admin):
    command = "mapred queue -showacls"
    assert "ADMINISTER_QUEUE" in admin.ok(command)
    assert "ADMINISTER_QUEUE" not in test_user.ok(command)


def test_what_a_disabled_user_runs_is_ended(cluster, running, test_user, tmp_path):
    """By the site's own tasks, once users.yml says of test_user that he is disabled."""
    host = cluster.hosts("resourcemanager")[0]
    users = cluster.inventory["_meta"]["hostvars"][host]["cluster_users"]
    listed = [{**one, "state": "disabled"} if one["name"] == "test_user" else one for one in users]
    assert listed != users
    live = {"ansible.builtin.import_role": {"name": "yarn", "tasks_from": "live"}}
    runs = [{"name": "YARN", **live, "check_mode": check} for check in (True, False, False, True)]
    play = {"hosts": host, "gather_facts": False, "vars": {"cluster_users": listed}, "tasks": runs}
    path = tmp_path / "disabled.yml"
    path.write_text(json.dumps([play]))

    run = run_site(playbook=path)
    assert (run.status, run.failed) == ("successful", [])
    # Foretold, done, and then nothing is left to do.
    assert run.changed == [(host, "End what disabled people still run")] * 2
    assert "State : KILLED" in test_user.ok(f"{YARN} application -status {running}")
