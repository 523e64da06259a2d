"""Every role tells the truth about its variables, its dependencies and its use."""

from __future__ import annotations

import re
from pathlib import Path

import preflight
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
PREFLIGHT_LIST = "cluster_chosen"


def load(path):
    """A YAML file; {} when it is empty or missing."""
    return (yaml.safe_load(path.read_text()) if path.exists() else None) or {}


def defaults_of(role):
    return load(role / "defaults/main.yml")


def entry_points(role):
    return load(role / "meta/argument_specs.yml").get("argument_specs", {})


def options_of(role):
    """All options of all entry points of a role."""
    return {
        name: option
        for entry in entry_points(role).values()
        for name, option in (entry.get("options") or {}).items()
    }


def documented(options, where=""):
    """(place, option) of each option and each of its suboptions."""
    for name, option in options.items():
        yield f"{where}{name}", option
        yield from documented(option.get("options", {}), f"{where}{name}.")


def normal(value):
    """A default as compared: folded texts may break their lines where they like."""
    return " ".join(value.split()) if isinstance(value, str) else value


@pytest.fixture(params=ROLES, ids=[role.name for role in ROLES])
def role(request):
    return request.param


def test_every_default_is_documented(role):
    assert set(defaults_of(role)) <= set(options_of(role))


def test_every_option_has_a_default_or_is_required(role):
    defaults = defaults_of(role)
    without = [
        name
        for name, option in options_of(role).items()
        if name not in defaults and not option.get("required")
    ]
    assert without == []


def test_documented_defaults_are_the_real_ones(role):
    defaults = defaults_of(role)
    wrong = {
        name: (option["default"], defaults[name])
        for name, option in options_of(role).items()
        if "default" in option
        and name in defaults
        and normal(option["default"]) != normal(defaults[name])
    }
    assert wrong == {}


def test_defaults_have_the_types_that_preflight_asks_of_a_site(role):
    plain = {name: value for name, value in defaults_of(role).items() if "{{" not in str(value)}
    assert preflight.type_faults(plain, options_of(role)) == []


def test_every_option_has_a_type_and_a_description(role):
    for where, option in documented(options_of(role)):
        assert option.get("type"), where
        assert option.get("description"), where
        if option["type"] == "list":
            assert option.get("elements"), where


def test_every_entry_point_is_a_file_of_tasks_and_says_what_it_does(role):
    for name, entry in entry_points(role).items():
        assert (role / f"tasks/{name}.yml").exists(), name
        assert entry.get("short_description"), name


def test_every_role_knows_the_shared_names(role):
    meta = load(role / "meta/main.yml")
    names = [item["role"] for item in meta["dependencies"]]
    assert names == ([] if role.name == "cluster" else ["cluster"])
    assert meta["galaxy_info"]["description"]
    assert meta["galaxy_info"]["license"] == "Apache-2.0"


def test_every_role_has_a_readme(role):
    text = (role / "README.md").read_text()
    assert text.startswith(f"# {role.name}\n")
    own = [name for name in defaults_of(role) if name.startswith(f"{role.name}_")]
    assert not own or any(name in text for name in own)


def test_no_role_reads_another_role_s_files(role):
    others = [other.name for other in ROLES if other != role]
    for path in role.rglob("*"):
        if path.is_file() and path.suffix in (".yml", ".j2"):
            text = path.read_text()
            for other in others:
                assert f"roles/{other}/" not in text, path
                assert f"../{other}/" not in text, path


def test_preflight_judges_every_choice_of_a_site():
    """Names above 'The inventory decides', and preflight's own; hosts' own are asked by host."""
    cluster = ROOT / "roles/cluster"
    text = (cluster / "defaults/main.yml").read_text()
    chosen = set(load_text(text.split("# --- The inventory decides")[0]))
    own = {name for name in load_text(text) if name.startswith("cluster_preflight_")}
    per_host = {"cluster_preflight_check_names", "cluster_preflight_mount_points"}
    (task,) = load(cluster / "tasks/topology.yml")
    assert set(task["vars"][PREFLIGHT_LIST]) == (chosen | own) - per_host


def test_preflight_knows_where_roles_put_their_releases():
    text = (ROOT / "roles/cluster/tasks/preflight.yml").read_text()
    places = {}
    for path in (ROOT / "roles").glob("*/vars/**/*.yml"):
        places |= {
            name: value
            for name, value in load(path).items()
            if re.fullmatch(r"\w+_release_directory|jupyter_python_directory", name)
        }
    assert len(places) == 8
    hadoop = {places.pop(f"{role}_release_directory") for role in ("hadoop", "yarn")}
    assert hadoop == {"{{ cluster_hadoop_home }}-{{ cluster_hadoop_version }}"}
    assert f'cluster_hadoop_release: "{hadoop.pop()}"' in text
    for place in places.values():
        before, version, after = re.fullmatch(r"(.*){{ (\w+) }}(.*)", place).groups()
        assert re.search(rf"'{before}' ~ {version}\b", text), place
        assert f"'{after}'" in text or not after
    models = load(ROOT / "roles/llama/vars/main.yml")
    assert f"'{models['llama_state']}/models/' ~" in text
    assert models["llama_models"] == "{{ llama_state }}/models"


def load_text(text):
    return yaml.safe_load(text) or {}
