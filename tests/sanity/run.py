#!/usr/bin/env python3
"""Run ansible-test sanity on the collection.

ansible-test fetches pip from a server of its own, which a site behind a mirror cannot reach. The
program put in the place of that download takes the pip that Python carries and lets it install
the wanted version from the package index. The tests themselves run unchanged.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

from ansible_test._internal.python_requirements import get_venv_packages

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = ROOT / "collections/ansible_collections/deitos/cluster"
BOOTSTRAP = """\
import subprocess
import sys

arguments = [word for word in sys.argv[1:] if not word.startswith("--no-")]
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *arguments], check=True)
"""
# Left out: those for other languages, and pylint, whose rules ruff covers in a tenth of the time.
TESTS = (
    "action-plugin-docs",
    "ansible-doc",
    "compile",
    "empty-init",
    "ignores",
    "import",
    "line-endings",
    "no-assert",
    "no-get-exception",
    "no-illegal-filenames",
    "no-smart-quotes",
    "pep8",
    "replace-urlopen",
    "runtime-metadata",
    "shebang",
    "symlinks",
    "use-argspec-type-path",
    "use-compat-six",
    "validate-modules",
    "yamllint",
)


class ThisPython:
    """The only thing that get_venv_packages asks of an interpreter."""

    version = ".".join(map(str, sys.version_info[:2]))


def pip_settings() -> str:
    """How pip reaches the package index from here; ansible-test passes no variables on to it."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    settings = {"cert": "/etc/ssl/certs/ca-certificates.crt"}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = ast.literal_eval(value)
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())


def main() -> int:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = base / "deitos-cluster" / "sanity"
    pip = get_venv_packages(ThisPython)["pip"].replace(".", "_")
    script = home / f".ansible/test/cache/get_pip_{pip}.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(BOOTSTRAP)
    configuration = home / ".config/pip/pip.conf"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text(pip_settings())
    command = [str(Path(sys.executable).with_name("ansible-test")), "sanity", "--color", "no"]
    command += [word for test in TESTS for word in ("--test", test)]
    environment = dict(os.environ, HOME=str(home), LC_ALL="C.UTF-8")
    command += ["--python", ThisPython.version, *sys.argv[1:]]
    return subprocess.run(command, cwd=COLLECTION, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
