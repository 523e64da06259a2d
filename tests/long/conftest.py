"""Long tests use a lab of their own; its name must be known before anything else is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ["LAB"] = os.environ.get("TEST_LAB", "test") + "-long"
ROOT = Path(__file__).resolve().parents[2]


def lab(*command):
    subprocess.run([sys.executable, str(ROOT / "lab/lab.py"), *command], check=True, cwd=ROOT)


@pytest.fixture(scope="session")
def machines():
    """The lab's machines, started and still empty when the first test asks for them."""
    import labhosts

    lab("down")
    lab("up")
    subprocess.run(
        ["ansible-playbook", "-i", "inventories/lab", "lab/container_executor/install.yml"],
        check=True,
        cwd=ROOT,
    )
    yield labhosts.Cluster()
    lab("down")


@pytest.fixture(scope="session")
def converged(machines):
    """After the chain of kills, which leaves one; without it, this makes the cluster."""
    from siterun import run_site

    run = run_site()
    assert (run.status, run.failed) == ("successful", [])
    return machines
