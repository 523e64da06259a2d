"""Role release: what counts as another archive, and what is left when one replaces another."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: release}
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="releases are root's")


class Release:
    """A directory /…/app-1 below `base`, and archives of it."""

    def __init__(self, base):
        self.base = base
        self.directory = base / "opt/app-1"
        self.directory.parent.mkdir()
        (base / "playbook.yml").write_text(PLAYBOOK)

    def archive(self, name, content):
        """The path and the digest of an archive of one file."""
        path = self.base / name
        with tarfile.open(path, "w:gz") as archive:
            entry = tarfile.TarInfo("app-1/lib/app.jar")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        return path, hashlib.sha256(path.read_bytes()).hexdigest()

    def install(self, path, checksum, *options):
        values = {
            "ansible_python_interpreter": sys.executable,
            "release_directory": str(self.directory),
            "release_url": f"file://{path}",
            "release_checksum": f"sha256:{checksum}",
        }
        words = ["-i", "localhost,", "-c", "local", "--extra-vars", json.dumps(values), *options]
        done = subprocess.run(
            [ANSIBLE_PLAYBOOK, *words, self.base / "playbook.yml"],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=120,
        )
        return "changed=0" not in done.stdout

    def tree(self):
        """What there is, by content, below the parent of the directory."""
        parent = self.directory.parent
        return {
            str(p.relative_to(parent)): p.read_bytes() for p in parent.rglob("*") if p.is_file()
        }

    def jar(self):
        return self.tree()["app-1/lib/app.jar"]

    def noted(self):
        return self.tree()["app-1/.release"].decode()


@pytest.fixture
def release(tmp_path):
    return Release(tmp_path)


def test_the_same_archive_from_elsewhere_replaces_nothing(release):
    path, digest = release.archive("app.tar.gz", b"one")
    assert release.install(path, digest)
    assert release.noted() == f"sha256:{digest}\n"
    place = release.directory.stat().st_ino

    mirror = path.rename(release.base / "mirror.tar.gz")
    assert not release.install(mirror, digest)
    listed = release.base / "mirror.tar.gz.sha256"
    listed.write_text(f"{digest}  mirror.tar.gz\n")
    assert release.install(mirror, f"file://{listed}")
    assert not release.install(mirror, f"file://{listed}")
    assert (release.directory.stat().st_ino, release.jar()) == (place, b"one")


def test_another_build_of_the_version_takes_its_place(release):
    release.install(*release.archive("app.tar.gz", b"one"))
    path, digest = release.archive("app.tar.gz", b"two")
    assert release.install(path, digest, "--check")
    assert release.jar() == b"one"
    assert release.install(path, digest)
    assert release.jar() == b"two"
    assert release.noted() == f"sha256:{digest}\n"
    assert len(release.tree()) == 3  # with the mark, and nothing beside the directory


def test_what_a_killed_run_left_is_finished(release):
    path, digest = release.archive("app.tar.gz", b"one")
    release.install(path, digest)
    whole = release.tree()
    (mark,) = release.directory.glob(".release-*")
    mark.unlink()
    for name in ("app-1.new", "app-1.old"):
        (release.directory.with_name(name) / "lib").mkdir(parents=True)
        (release.directory.with_name(name) / "lib/part").write_text("half")
    assert release.install(path, digest)
    assert release.tree() == whole
