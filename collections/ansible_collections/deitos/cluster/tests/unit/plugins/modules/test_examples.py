"""The examples of every module fit its documented options, and run where no service is needed.

Those of the modules for Kerberos are run in test_kerberos_examples.py, those that need a daemon by
the project's tests/integration/test_module_examples.py.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROOT = Path(__file__).resolve().parents[4]
PLUGINS = "ansible_collections.deitos.cluster.plugins"
COLLECTION = "deitos.cluster."
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
# What may stand for a templated value, of which only the type is known.
SOMETHING = {"list": [], "dict": {}, "bool": False, "int": 0, "float": 0.0}


def load(name):
    return importlib.import_module(f"{PLUGINS}.modules.{name}")


def documented(name):
    """All options of a module, with those of the fragments that it names."""
    documentation = yaml.safe_load(load(name).DOCUMENTATION)
    options = dict(documentation.get("options", {}))
    for fragment in documentation.get("extends_documentation_fragment", []):
        file, _, part = fragment.removeprefix(COLLECTION).partition(".")
        found = importlib.import_module(f"{PLUGINS}.doc_fragments.{file}").ModuleDocFragment
        text = getattr(found, part.upper() or "DOCUMENTATION")
        options |= yaml.safe_load(text)["options"]
    return options


def specification(options):
    """An argument_spec as the documentation tells it."""
    kept = ("type", "elements", "required", "choices", "default", "aliases")
    return {
        name: {key: option[key] for key in kept if key in option}
        | ({"options": specification(option["suboptions"])} if "suboptions" in option else {})
        for name, option in options.items()
    }


def settled(options, arguments):
    """The arguments with something of the right type in place of each template."""
    result = {}
    for name, value in arguments.items():
        option = options.get(name, {})
        if isinstance(value, str) and "{{" in value:
            value = SOMETHING.get(option.get("type"), value)
        elif "suboptions" in option:
            within = option["suboptions"]
            several = isinstance(value, list)
            value = [settled(within, one) for one in value] if several else settled(within, value)
        result[name] = value
    return result


def examples(name):
    """The arguments of the module in each of its examples."""
    tasks = yaml.safe_load(load(name).EXAMPLES)
    return [task[COLLECTION + name] for task in tasks if COLLECTION + name in task]


@pytest.mark.parametrize("name", MODULES)
def test_examples_use_documented_options(name):
    tasks = yaml.safe_load(load(name).EXAMPLES)
    assert all(task["name"] for task in tasks)
    options = documented(name)
    found = examples(name)
    assert found
    for arguments in found:
        result = ArgumentSpecValidator(specification(options)).validate(settled(options, arguments))
        assert not result.error_messages, (arguments, result.error_messages)


def moved(value, places):
    """The value with the text that each key is replaced by its place, everywhere in it."""
    if isinstance(value, dict):
        return {moved(key, places): moved(one, places) for key, one in value.items()}
    if isinstance(value, list):
        return [moved(one, places) for one in value]
    for old, new in places.items() if isinstance(value, str) else ():
        value = value.replace(old, str(new))
    return value


@pytest.fixture
def run_examples(tmp_path, monkeypatch, run_module):
    """Calls run_examples(name, places, more): runs each example as it stands and again, with other
    paths and more options; returns the results of the first runs."""
    monkeypatch.chdir(tmp_path)

    def run(name, places, **more):
        results = []
        for arguments in moved(examples(name), places):
            arguments |= more
            assert "{{" not in str(arguments)
            checked = run_module(load(name), check=True, **arguments)
            assert not checked["failed"], checked["msg"]
            done = run_module(load(name), **arguments)
            assert not done["failed"], done["msg"]
            assert done["changed"] == checked["changed"]
            assert not run_module(load(name), **arguments)["changed"]
            results.append(done)
        return results

    return run


@pytest.fixture(autouse=True)
def as_this_user(monkeypatch):
    """What belongs to any user belongs to whoever runs the tests."""
    atomic = importlib.import_module(f"{PLUGINS}.module_utils.atomic")
    monkeypatch.setattr(atomic, "uid_of", lambda _owner: os.getuid())
    monkeypatch.setattr(atomic, "gid_of", lambda _group: os.getgid())


def test_host_files(tmp_path, run_examples, monkeypatch):
    (tmp_path / "old.conf").touch()
    (tmp_path / "data/1").mkdir(parents=True)
    mounted = {str(tmp_path / "data/1")}
    monkeypatch.setattr(load("host_files"), "mount_points", lambda: mounted)
    places = {
        "/etc/example/old.conf": tmp_path / "old.conf",
        "/etc/": f"{tmp_path}/",
        "/data/": f"{tmp_path}/data/",
        "{{ lookup('ansible.builtin.template', 'example.conf.j2') }}": "colour=red\n",
    }
    run_examples("host_files", places)
    assert (tmp_path / "example/current").read_text() == "colour=red\n"
    assert len((tmp_path / "example/cookie.secret").read_text()) == 128
    assert (tmp_path / "data/1/hdfs").is_dir()
    assert not (tmp_path / "old.conf").exists()


def test_hadoop_config(tmp_path, run_examples, monkeypatch):
    module = load("hadoop_config")
    (arguments,) = examples("hadoop_config")
    (tmp_path / "hadoop").mkdir()
    (tmp_path / "keystore.password").write_text("made-up\n")
    places = {"/etc/deitos/pki/": f"{tmp_path}/", "/etc/": f"{tmp_path}/"}
    arguments["files"][0]["overrides"] = {"dfs.replication": 2}
    monkeypatch.setattr(
        module, "EXAMPLES", yaml.safe_dump([{f"{COLLECTION}hadoop_config": arguments}])
    )
    run_examples("hadoop_config", places)
    assert "<final>true</final>" in (tmp_path / "hadoop/hdfs-site.xml").read_text()
    assert "made-up" in (tmp_path / "hadoop/ssl-server.xml").read_text()


def test_pkcs12_keystore(tmp_path, run_examples, authority):
    key, certificate = authority.issue("host", ["host"])
    places = {
        "/etc/deitos/pki/host.key": key,
        "/etc/deitos/pki/host.crt": certificate,
        "/etc/deitos/pki/ca.crt": authority.certificate,
        "/etc/deitos/pki/": f"{tmp_path}/",
    }
    run_examples("pkcs12_keystore", places)
    assert (tmp_path / "keystore.p12").stat().st_mode & 0o777 == 0o440


def test_host_certificate(tmp_path, run_module, authority):
    module = load("host_certificate")
    see, install = examples("host_certificate")
    ours = {"ca": authority.certificate.read_text(), "directory": str(tmp_path / "pki")}
    asked = run_module(module, **see | ours)
    assert not asked["failed"], asked
    assert asked["needed"]
    request, certificate = tmp_path / "host.csr", tmp_path / "host.crt"
    request.write_text(asked["csr"])
    authority._openssl(
        *("x509", "-req", "-in", request, "-out", certificate, "-days", "90"),
        *("-copy_extensions", "copyall"),
        *("-CA", authority.certificate, "-CAkey", authority.root / "ca.key"),
    )
    ours["certificate"] = certificate.read_text()
    done = run_module(module, **install | ours)
    assert not done["failed"], done
    del ours["certificate"]
    assert not run_module(module, **see | ours)["needed"]


def test_trust_anchor(tmp_path, run_module, authority):
    (arguments,) = examples("trust_anchor")
    bundle = tmp_path / "bundle.crt"
    bundle.touch()
    result = run_module(
        load("trust_anchor"),
        check=True,
        **arguments
        | {
            "content": authority.certificate.read_text(),
            "directory": str(tmp_path),
            "bundle": str(bundle),
            "java_keystore": str(tmp_path / "cacerts"),
        },
    )
    assert not result["failed"], result
    assert result["changed"]


def test_system_users(tmp_path, run_module, monkeypatch):
    module = load("system_users")
    for name in ("PASSWD", "GROUP"):
        (tmp_path / name).touch()
        monkeypatch.setattr(module, name, str(tmp_path / name))
    monkeypatch.setattr(module.AnsibleModule, "get_bin_path", lambda _s, name, **_k: name)
    (arguments,) = examples("system_users")
    result = run_module(module, check=True, **arguments)
    assert not result["failed"], result
    assert {"group tls (799)", "user hdfs (801)", "yarn in hadoop"} <= set(result["created"])


def test_kernel_settings(tmp_path, run_examples, monkeypatch):
    monkeypatch.setattr(load("kernel_settings"), "ROOT", str(tmp_path))
    for path, value in {
        "vm/swappiness": "60",
        "net/core/somaxconn": "128",
        "kernel/mm/transparent_hugepage/defrag": "always [madvise] never",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(f"{value}\n")
    (done,) = run_examples("kernel_settings", {"/sys/": f"{tmp_path}/"})
    assert len(done["changed_settings"]) == 3


def test_slapd_config(tmp_path, run_module):
    (arguments,) = examples("slapd_config")
    result = run_module(
        load("slapd_config"),
        check=True,
        **arguments | {"directory": str(tmp_path / "slapd.d"), "ldif": "dn: cn=config\n"},
    )
    assert not result["failed"], result
    assert result["changed"]


def test_kerberos_database(tmp_path, run_module):
    (arguments,) = examples("kerberos_database")
    result = run_module(
        load("kerberos_database"),
        check=True,
        **arguments | {"database": str(tmp_path / "principal"), "stash": str(tmp_path / "stash")},
    )
    assert result["created"], result
