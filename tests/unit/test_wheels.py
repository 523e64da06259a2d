"""The builder of what has to be compiled: what it pins, and how it lays wheels out."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "lab/wheels/llama"

specification = importlib.util.spec_from_file_location("wheel_builder", RECIPE.parent / "build.py")
builder = importlib.util.module_from_spec(specification)
sys.modules[specification.name] = builder
specification.loader.exec_module(builder)


@pytest.mark.parametrize("name", ["source", "build", "runtime"])
def test_every_package_is_pinned_by_digest(name):
    for package, digest in builder.locked(name).items():
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+", package)
        assert re.fullmatch(r"[0-9a-f]{64}", digest), package


def test_the_pin_is_that_of_this_recipe_and_of_the_lab():
    pin = json.loads((RECIPE / "pin.json").read_text())
    assert (pin["recipe"], pin["archive"]) == (builder.recipe(), builder.archive_name())
    lab = yaml.safe_load(builder.LAB_VARIABLES.read_text())
    assert lab["llama_release_checksum"] == f"sha256:{pin['sha256']}"


def test_the_role_and_the_lock_name_one_version():
    (package,) = builder.locked("source")
    defaults = yaml.safe_load((ROOT / "roles/llama/defaults/main.yml").read_text())
    assert package == f"llama-cpp-python=={defaults['llama_version']}"


def test_a_wheel_is_laid_out_as_if_installed(tmp_path):
    wheel = tmp_path / "toy-1-py3-none-any.whl"
    members = ("toy/__init__.py", "toy-1.data/purelib/more.py", "toy-1.data/scripts/toy")
    with zipfile.ZipFile(wheel, "w") as archive:
        for member in members:
            archive.writestr(member, member)
    assert builder.unpack(wheel) == {
        "toy/__init__.py": (b"toy/__init__.py", False),
        "more.py": (b"toy-1.data/purelib/more.py", False),
    }


def test_what_has_no_place_is_refused(tmp_path):
    wheel = tmp_path / "toy-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy-1.data/data/etc/toy", "x")
    with pytest.raises(builder.BuildError, match="has no place"):
        builder.unpack(wheel)


def test_an_archive_that_is_there_is_not_built_again(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / builder.archive_name()).write_bytes(b"whole")
    pin = {"recipe": builder.recipe(), "sha256": builder.releases.sha256_of(next(out.iterdir()))}
    monkeypatch.setattr(builder, "RECIPE", tmp_path)
    for lock in RECIPE.glob("*.lock"):
        (tmp_path / lock.name).write_bytes(lock.read_bytes())
    (tmp_path / "pin.json").write_text(json.dumps(pin))
    assert builder.build(out, tmp_path / "cache", 1) == out / builder.archive_name()
    (tmp_path / "pin.json").write_text(json.dumps({**pin, "recipe": "another"}))
    with pytest.raises(builder.BuildError, match="changed since"):
        builder.build(out, tmp_path / "cache", 1)
