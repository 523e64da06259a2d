"""Run the site through ansible-runner and say what happened, host by host."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import ansible_runner
from labhosts import INVENTORY, ROOT

RAN = {"runner_on_ok", "runner_on_failed", "runner_on_unreachable"}


@dataclass
class SiteRun:
    """What one run did."""

    status: str = ""
    changed: list[tuple[str, str]] = field(default_factory=list)
    # What each of these has returned.
    results: dict[tuple[str, str], dict] = field(default_factory=dict)
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    tasks: Counter = field(default_factory=Counter)
    started: int = 0
    artifacts: Path | None = None

    def note(self, event):
        """Take in one event of the runner."""
        data = event.get("event_data", {})
        kind, host, task = event["event"], data.get("host"), data.get("task")
        if kind == "playbook_on_task_start":
            self.started += 1
        if kind in RAN:
            self.tasks[host] += 1
            result = data.get("res", {})
            if result.get("changed"):
                self.changed.append((host, task))
                self.results[host, task] = result
            if kind != "runner_on_ok" and not data.get("ignore_errors"):
                self.failed.append((host, task, str(result.get("msg", ""))[:2000]))
        return True


def run_site(*options, playbook="playbooks/site.yml", inventory=INVENTORY, kill_after=None):
    """Run a playbook on the lab; kill it, without warning, once `kill_after` tasks have begun."""
    done = SiteRun(artifacts=Path(tempfile.mkdtemp(prefix="deitos-run-")))
    runner = ansible_runner.run(
        private_data_dir=str(done.artifacts),
        project_dir=str(ROOT),
        playbook=str(ROOT / playbook),
        inventory=str(inventory),
        cmdline=" ".join(options) or None,
        envvars={"LAB": os.environ.get("LAB", ""), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        event_handler=done.note,
        cancel_callback=lambda: kill_after is not None and done.started >= kill_after,
        # How often, in seconds, it looks up from a silent run to ask that.
        settings={"pexpect_timeout": 1},
        quiet=True,
    )
    done.status = runner.status
    return done
