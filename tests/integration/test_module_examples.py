"""The examples of the modules that need a daemon, run on the lab in check mode.

Names, addresses and bases are replaced by the lab's, paths of HDFS by some below a directory that
is made before and removed afterwards. Those of the other modules are run by the collection's unit
tests.
"""

from __future__ import annotations

import importlib

import jinja2
import pytest
import yaml
from modulerun import Step, on_lab

COLLECTION = "deitos.cluster."
HDFS = ("hdfs_path", "hdfs_acl", "hdfs_info")
ON_MASTER = (*HDFS, "yarn_info", "yarn_application", "jmx_info", "daemon", "preflight_host")
ON_KDC = ("ldap_directory", "ldap_entries")
ON_METASTORE = ("metastore_info",)
# Where the examples' paths of HDFS go, and those of them that are there.
SCRATCH = "/tmp/module_examples"
PRESENT = {
    "/tmp": "1777",
    "/user": "0755",
    "/data/sales": "0770",
    "/data/hr": "0750",
    "/data/old": "0755",
}
IN_HDFS = ("/tmp", "/user", "/data", "/apps")


def tasks(module):
    """The tasks of a module's examples."""
    path = f"ansible_collections.deitos.cluster.plugins.modules.{module}"
    return yaml.safe_load(importlib.import_module(path).EXAMPLES)


def moved(value, places, in_hdfs):
    """An example's value as it is on the lab."""
    if isinstance(value, dict):
        return {name: moved(one, places, in_hdfs) for name, one in value.items()}
    if isinstance(value, list):
        return [moved(one, places, in_hdfs) for one in value]
    if not isinstance(value, str):
        return value
    if in_hdfs and value.startswith(IN_HDFS):
        return SCRATCH + value
    for old, new in places.items():
        value = value.replace(old, new)
    return value


def places(cluster):
    """What the examples name, and what it is called on the lab."""
    web = cluster.web()
    master, kdc = cluster.fqdn("namenode"), cluster.fqdn("kdc")
    return {
        "https://nn1.example.org:9871": web["namenode"],
        # A dead one, as in a pair of which one is down.
        "https://nn2.example.org:9871": f"https://{master}:9",
        "https://rm1.example.org:8090": web["resourcemanager"],
        "nn/nn1.example.org": f"nn/{master}",
        "/opt/tez/tez.tar.gz": "/etc/hostname",
        "hdfs-datanode": "hdfs-namenode",
        # A group of the lab has this name, with another number.
        "analysts": "module_examples",
        "{{ restart_policy == 'rolling' }}": "{{ true }}",
        "hive1.example.org": cluster.fqdn("metastore"),
        "worker1.example.org": master,
        "master1.example.org": master,
        "kdc1.example.org": kdc,
        "kdc1.deitos.network": kdc,
        "dc=deitos,dc=network": ",".join(f"dc={part}" for part in cluster.domain.split(".")),
    }


@pytest.fixture(scope="module")
def answers(cluster):
    """{module: the results of its examples}."""
    master, found = cluster.fqdn("namenode"), {}
    present = [{"path": SCRATCH + path, "mode": mode} for path, mode in PRESENT.items()]
    clear = Step(f"{COLLECTION}hdfs_path", {"path": SCRATCH, "state": "absent", "recursive": True})
    more = {
        "yarn_info": {"principal": f"rm/{cluster.fqdn('resourcemanager')}"},
        "yarn_application": {"principal": f"rm/{cluster.fqdn('resourcemanager')}"},
    }
    plays = (
        (cluster.hosts("namenode")[0], ON_MASTER, Step(clear.module, {"paths": present}), clear),
        (cluster.hosts("kdc")[0], ON_KDC, None, None),
        (cluster.hosts("metastore")[0], ON_METASTORE, None, None),
    )
    for host, modules, before, after in plays:
        steps, names = [], []
        for name in modules:
            for task in tasks(name):
                if COLLECTION + name not in task:
                    continue
                arguments = moved(task[COLLECTION + name], places(cluster), name in HDFS)
                if arguments.get("bind") == "gssapi":
                    arguments["keytab"] = "/etc/krb5.keytab"
                arguments |= more.get(name, {})
                steps.append(Step(COLLECTION + name, arguments, check=True))
                names.append(name)
        defaults = {"endpoints": [cluster.web()["namenode"]], "principal": f"nn/{master}"}
        results = on_lab(host, defaults)([one for one in (before, *steps, after) if one])
        if before:
            assert not results[0]["failed"], results[0]["msg"]
            assert not results[-1]["failed"], results[-1]["msg"]
            results = results[1:-1]
        for name, result in zip(names, results):
            found.setdefault(name, []).append(result)
    return found


@pytest.mark.parametrize("module", [*ON_MASTER, *ON_KDC, *ON_METASTORE])
def test_examples_run(answers, module):
    assert answers[module]
    for result in answers[module]:
        assert not result["failed"], result["msg"]


@pytest.mark.parametrize("module", ["hdfs_info", "yarn_info"])
def test_what_examples_insist_on_can_be_asked(answers, module):
    """Each condition is one of the result; whether it holds is, for YARN, not the test's affair."""
    look, insist = tasks(module)
    (result,) = answers[module]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True)
    for condition in insist["ansible.builtin.assert"]["that"]:
        condition = condition.replace("/data/", f"{SCRATCH}/data/")
        ask = environment.compile_expression(condition, undefined_to_none=False)
        said = ask({look["register"]: result})
        assert said is True or (module == "yarn_info" and said is False), condition
