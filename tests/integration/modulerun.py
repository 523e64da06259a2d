"""Four runs of a module for each of many cases, all through one ansible-playbook on the lab."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import ansible_runner
import yaml

ROOT = Path(__file__).resolve().parents[2]
# Check mode, for real, for real again, check mode again.
RUNS = (True, False, False, True)
FAILING_RUNS = (True, False)
# Where each module takes many items.
LISTS = {"deitos.cluster.hdfs_path": "paths", "deitos.cluster.hdfs_acl": "acls"}


@dataclass
class Case:
    """What a module is asked for, what is done before, and what must come of it."""

    name: str
    args: dict
    before: list[tuple[str, dict]] = field(default_factory=list)
    changed: bool = True
    # Something of the error message, when it must fail.
    fails: str | None = None
    # Whether check mode must know that; if not, HDFS alone does, when it is done.
    foreseen: bool = True
    # Whether a second run must change nothing.
    steady: bool = True
    # How HDFS itself must then describe each path; None for a path that must not be there.
    then: dict[str, str | None] = field(default_factory=dict)
    # And what its further commands must say of them.
    told: dict[str, str] = field(default_factory=dict)


@dataclass
class Step:
    """One task."""

    module: str
    args: dict
    check: bool = False


def four_runs(execute, module, cases):
    """{case name: its results}; `execute` runs steps in order and returns their results.

    What is done before the cases is done for all of them in one call a module. Each case has paths
    of its own: two run at a time.
    """
    prepared = {}
    for case in cases:
        for name, args in case.before:
            prepared.setdefault(name, []).append(args)
    steps = [Step(name, {LISTS[name]: items}) for name, items in prepared.items()]
    for step, result in zip(steps, execute(steps)):
        assert not result.get("failed"), f"{step.module}: {result}"

    def run(some):
        runs = {case.name: RUNS if case.fails is None else FAILING_RUNS for case in some}
        steps = [Step(module, case.args, check) for case in some for check in runs[case.name]]
        results = iter(execute(steps))
        return {name: [next(results) for _ in checks] for name, checks in runs.items()}

    with ThreadPoolExecutor() as pool:
        outcome = {}
        for part in pool.map(run, (cases[::2], cases[1::2])):
            outcome |= part
    return outcome


def verify(case, results):
    """What must hold of the results of a case."""
    if case.fails is not None:
        foretold, done = results
        assert done.get("failed"), done
        assert case.fails in done["msg"]
        if case.foreseen:
            assert foretold.get("failed"), foretold
            assert foretold["msg"] == done["msg"]
            assert foretold.get("changed_paths") == done.get("changed_paths")
        return
    foretold, done, again, checked = results
    assert not done.get("failed"), done["msg"]
    assert done["changed"] == case.changed, done
    assert foretold["changed"] == done["changed"], foretold
    assert foretold.get("diff") == done.get("diff")
    assert foretold.get("changed_paths") == done.get("changed_paths")
    if case.steady:
        assert not again["changed"], again
        assert not checked["changed"], checked


def on_lab(host, defaults, diff=True):
    """An `execute` that runs the steps on a host of the lab, with options for the HDFS modules."""

    def execute(steps):
        tasks = [
            {
                "name": f"Step {number}",
                step.module: step.args,
                "check_mode": step.check,
                "diff": diff,
                # Some cases must fail; each result is judged by its test.
                "failed_when": False,
            }
            for number, step in enumerate(steps)
        ]
        play = {
            "name": "Run the cases",
            "hosts": host,
            "gather_facts": False,
            "module_defaults": {"group/deitos.cluster.hdfs": defaults},
            "tasks": tasks,
        }
        directory = Path(tempfile.mkdtemp(prefix="deitos-cases-"))
        playbook = directory / "cases.yml"
        playbook.write_text(yaml.safe_dump([play], sort_keys=False))
        results = {}

        def note(event):
            data = event.get("event_data", {})
            if event["event"] in ("runner_on_ok", "runner_on_failed"):
                result = data["res"]
                # failed_when has overruled the module's own word.
                result["failed"] = bool(result.get("msg"))
                result["seconds"] = data["duration"]
                results[int(data["task"].removeprefix("Step "))] = result
            return True

        runner = ansible_runner.run(
            private_data_dir=str(directory),
            playbook=str(playbook),
            inventory=str(ROOT / "inventories/lab"),
            envvars={"LAB": os.environ.get("LAB", ""), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            event_handler=note,
            quiet=True,
        )
        assert runner.status == "successful", runner.stdout.read()[-3000:]
        return [results[number] for number in range(len(steps))]

    return execute
