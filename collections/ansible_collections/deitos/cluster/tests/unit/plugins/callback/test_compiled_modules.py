"""Modules compiled beside their source: for which Python, and when not."""

from __future__ import annotations

import datetime
import io
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import pytest
from ansible.executor import module_common
from ansible_collections.deitos.cluster.plugins.callback import compiled_modules

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SOURCE = b"def place():\n    return place.__code__.co_filename\n"


@pytest.fixture
def fresh(monkeypatch):
    """ansible-core as it comes, and as it was afterwards."""
    for step in ("_add_module_to_zip", "_compile_module_ast"):
        function = getattr(module_common, step)
        monkeypatch.setattr(module_common, step, getattr(function, "__wrapped__", function))


def archive(source=SOURCE):
    """One with one library, compiled."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression=zipfile.ZIP_DEFLATED) as made:
        made.writestr("library.py", source)
        compiled_modules.add_compiled(made, NOW)
    return content


def imported(tmp_path, content):
    """What the library says of itself to Python, imported from the archive."""
    file = tmp_path / "payload.zip"
    file.write_bytes(content.getvalue())
    program = (
        f"import sys; sys.path.insert(0, {str(file)!r}); import library; print(library.place())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_same_python_takes_what_is_compiled(tmp_path):
    assert imported(tmp_path, archive()) == "payload.zip/library.py"


def test_another_python_takes_the_source(tmp_path, monkeypatch):
    compiled_modules.compiled.cache_clear()
    monkeypatch.setattr(compiled_modules.importlib.util, "MAGIC_NUMBER", b"\x01\x02\r\n")
    content = archive()
    compiled_modules.compiled.cache_clear()
    assert "library.pyc" in zipfile.ZipFile(content).namelist()
    assert imported(tmp_path, content) == f"{tmp_path}/payload.zip/library.py"


def test_a_source_for_another_python_goes_as_it_is():
    content = archive(b"print 'of old'\n")
    assert zipfile.ZipFile(content).namelist() == ["library.py"]


def finished(names=()):
    """What an archive holds after ansible-core's last step, with these of its extensions."""
    manager = SimpleNamespace(extension_names=names, debugger_enabled=False, source_mapping={})
    with zipfile.ZipFile(io.BytesIO(), "w") as made:
        module_common._add_module_to_zip(
            made, NOW, "ansible.modules.unit", b"pass\n", "/unit.py", manager
        )
        return made.namelist()


@pytest.mark.usefixtures("fresh")
def test_a_debugger_gets_sources_alone():
    assert compiled_modules.install()
    assert "ansible/modules/unit.pyc" in finished()
    assert "ansible/modules/unit.pyc" not in finished(("_debugpy",))


@pytest.mark.usefixtures("fresh")
def test_twice_is_once():
    assert compiled_modules.install()
    step = module_common._add_module_to_zip
    assert compiled_modules.install()
    assert module_common._add_module_to_zip is step


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("step", compiled_modules.STEPS)
def test_another_ansible_core_is_left_alone(monkeypatch, step):
    monkeypatch.setattr(module_common, step, lambda zf, another: None)
    before = dict(vars(module_common))
    assert not compiled_modules.install()
    assert vars(module_common) == before
    monkeypatch.delattr(module_common, step)
    assert not compiled_modules.install()
