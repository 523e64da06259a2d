"""The builder of releases made of packages: what it pins, and how it lays wheels out."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WHEELS = ROOT / "lab/wheels"
SITE = "lib/python3.11/site-packages"

specification = importlib.util.spec_from_file_location("wheel_builder", WHEELS / "build.py")
builder = importlib.util.module_from_spec(specification)
sys.modules[specification.name] = builder
specification.loader.exec_module(builder)


# Where the lab names an archive, and its digest.
VARIABLES = {
    "llama": ("llama_release_url", "llama_release_checksum"),
    "jupyterhub": ("jupyter_release_url", "jupyter_release_checksum"),
    "deitos-python-kernel": ("jupyter_python_url", "jupyter_python_checksum"),
}


@pytest.fixture(params=builder.RECIPES.values(), ids=list(builder.RECIPES))
def recipe(request):
    return request.param


@pytest.mark.parametrize("name", ["source", "build", "runtime"])
def test_every_package_is_pinned_by_digest(recipe, name):
    for package, digest in recipe.locked(name).items():
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+", package)
        assert re.fullmatch(r"[0-9a-f]{64}", digest), package


def test_every_package_of_npm_is_pinned_by_digest_and_from_no_special_place():
    lock = json.loads((WHEELS / "jupyterhub/package-lock.json").read_text())
    for path, package in lock["packages"].items():
        assert "resolved" not in package
        assert not path or package["integrity"].startswith("sha512-"), path


def test_the_pin_is_that_of_this_recipe(recipe):
    pin = recipe.pin()
    assert (pin["recipe"], pin["archive"]) == (recipe.digest(), recipe.archive)


def test_the_lab_has_the_archive_that_was_made(recipe, tmp_path):
    """Whatever its digest is, on the computer that made it."""
    note = tmp_path / "deitos-cluster/releases" / f"{recipe.archive}.json"
    note.parent.mkdir(parents=True)
    note.write_text('{"sha256": "1234"}')
    command = ["ansible", "-i", str(ROOT / "inventories/lab"), "-m", "ansible.builtin.debug"]
    url, checksum = VARIABLES[recipe.name]
    asked = subprocess.run(
        [*command, "-a", f"msg='{{{{ {url} }}}} {{{{ {checksum} }}}}'", "edge1"],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert f"/{recipe.archive} sha256:1234" in " ".join(asked.stdout.split())


@pytest.mark.parametrize(
    ("name", "role", "variable"),
    [
        ("llama", "llama", "llama_version"),
        ("jupyterhub", "jupyter", "jupyter_version"),
        ("deitos-python-kernel", "jupyter", "jupyter_python_version"),
    ],
)
def test_the_role_and_the_recipe_name_one_version(name, role, variable):
    defaults = yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text())
    assert builder.RECIPES[name].version == str(defaults[variable])


def test_what_servers_and_kernels_both_have_is_of_one_version():
    hub, kernel = (
        dict(package.split("==") for package in builder.RECIPES[name].locked("runtime"))
        for name in ("jupyterhub", "deitos-python-kernel")
    )
    assert {name: hub[name] for name in hub.keys() & kernel} == {
        name: kernel[name] for name in hub.keys() & kernel
    }


@pytest.fixture
def wheel(tmp_path):
    def make(**members):
        path = tmp_path / "toy-1-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return path

    return make


def test_a_wheel_is_laid_out_as_if_installed(wheel):
    members = {
        "toy/__init__.py": "1",
        "toy-1.data/purelib/more.py": "2",
        "toy-1.data/scripts/x": "3",
    }
    assert builder.unpack(wheel(**members)) == {
        "site-packages/toy/__init__.py": (b"1", False),
        "site-packages/more.py": (b"2", False),
    }


def test_what_has_no_place_is_refused(wheel):
    with pytest.raises(builder.BuildError, match="has no place"):
        builder.unpack(wheel(**{"toy-1.data/data/etc/toy": "x"}))


def test_in_an_environment_all_of_a_wheel_has_its_place(wheel):
    members = {
        "toy/__init__.py": "1",
        "toy-1.data/data/share/toy": "2",
        "toy-1.data/scripts/old": "#!python\n3",
        "toy-1.dist-info/entry_points.txt": "[console_scripts]\nNew = toy.main:App.run [extra]\n",
    }
    found = builder.unpack(wheel(**members), "/opt/toy-1")
    assert found.pop(f"{SITE}/toy-1.dist-info/entry_points.txt")
    program, executable = found.pop("bin/New")
    assert executable
    assert program.startswith(b"#!/opt/toy-1/bin/python\n")
    assert b"from toy.main import App\n" in program
    assert b"sys.exit(App.run())" in program
    assert found == {
        f"{SITE}/toy/__init__.py": (b"1", False),
        "share/toy": (b"2", False),
        "bin/old": (b"#!/opt/toy-1/bin/python\n3", True),
    }


def compiled(directory, monkeypatch, source):
    """What a package of one C file becomes, by gcc with the flags that its own builder is given."""
    tree = directory / "toy-1"
    tree.mkdir(parents=True)
    (tree / "toy.c").write_text(source)
    archive, result = directory / "toy.tar.gz", directory / "toy.o"
    subprocess.run(["tar", "-czf", archive, "-C", directory, "toy-1"], check=True)
    monkeypatch.setattr(builder.Recipe, "locked", lambda _self, _lock: {"toy==1": "0" * 64})
    build = builder.Builder(builder.RECIPES["jupyterhub"], directory, directory, 1)

    def pip(_command, *words, **_what):
        flags = build.environment["CFLAGS"].split()
        file = Path(words[-1]) / "toy.c"
        subprocess.run(["gcc", *flags, "-c", file, "-o", result], check=True)

    monkeypatch.setattr(build, "pip", pip)
    monkeypatch.setattr(build, "fetch", lambda lock: [archive] if lock == "source" else [])
    build.wheels()
    return result.read_bytes()


def test_the_lines_of_generated_code_do_not_get_into_what_is_compiled(tmp_path, monkeypatch):
    """Cython orders what it generates in one of two ways; an assertion holds its own line."""
    source = "#include <assert.h>\nint toy(int x) { assert(x); return x; }\n"
    first = compiled(tmp_path / "1", monkeypatch, source)
    assert compiled(tmp_path / "2", monkeypatch, f"\n\n{source}") == first


@pytest.fixture
def make(recipe, tmp_path, monkeypatch):
    """Calls make(): the archive, and whether it was built for that; what is in it is not real."""
    built = []

    def lay_out(_builder):
        built.append(recipe.name)
        return {"file": (make.content, False)}

    def call():
        built.clear()
        monkeypatch.setattr(builder.Builder, "prepare", lambda _self: None)
        monkeypatch.setattr(builder, "made_with", lambda: make.made_with)
        monkeypatch.setattr(builder.Recipe, "pin", lambda _self: make.pin)
        toy = dataclasses.replace(recipe, lay_out=lay_out)
        return builder.build(toy, tmp_path / "out", tmp_path / "cache", 1), bool(built)

    make = call
    make.content, make.made_with = b"whole", "g++ 1"
    make.pin = {"recipe": recipe.digest(), "sha256": "0" * 64, "made_with": "g++ 0"}
    return make


def test_an_archive_that_is_there_is_not_built_again(make):
    archive, built = make()
    assert built
    note = json.loads(archive.with_name(f"{archive.name}.json").read_text())
    assert (note["sha256"], note["made_with"]) == (builder.releases.sha256_of(archive), "g++ 1")
    make.made_with = "g++ 2"
    assert make() == (archive, False)


@pytest.mark.parametrize("damage", ["note missing", "note cut off", "archive changed"])
def test_what_is_not_as_noted_is_built_again(make, damage):
    archive, _built = make()
    note = archive.with_name(f"{archive.name}.json")
    whole = note.read_text(), archive.read_bytes()
    if damage == "note missing":
        note.unlink()
    elif damage == "note cut off":
        note.write_text(whole[0][:20])
    else:
        archive.write_bytes(b"other")
    assert make() == (archive, True)
    assert (note.read_text(), archive.read_bytes()) == whole


def test_other_tools_may_give_other_bytes_and_the_same_may_not(make, capsys):
    archive, _built = make()
    assert "g++ 1, not with pin.json's g++ 0" in capsys.readouterr().err
    make.pin = {**make.pin, "made_with": "g++ 1", "sha256": builder.releases.sha256_of(archive)}
    archive.unlink()
    assert make() == (archive, True)
    assert "made with" not in capsys.readouterr().err
    make.content = b"other"
    archive.unlink()
    with pytest.raises(builder.BuildError, match=r"made with the same g[+][+] 1"):
        make()


def test_a_changed_recipe_is_pinned_first(make):
    make.pin = {**make.pin, "recipe": "another"}
    with pytest.raises(builder.BuildError, match="changed since"):
        make()


def test_another_package_is_another_recipe(recipe, tmp_path):
    lock = tmp_path / "other/runtime.lock"
    lock.parent.mkdir()
    lock.write_text("toy==1 --hash=sha256:" + "0" * 64)

    class Elsewhere(builder.Recipe):
        directory = lock.parent

    fields = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    assert Elsewhere(**{**fields, "own_version": "1"}).digest() != recipe.digest()
