#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Daemons that run, and run on their current inputs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: daemon
short_description: Keep systemd units running on their current configuration
version_added: 0.1.0
author: The Deitos Cluster authors (@deitos)
description:
  - Starts what does not run, restarts what runs on other inputs than there are now, reloads what
    needs no more than that, and leaves the rest alone.
  - Whether a unit is on its current inputs is a matter of state, not of events. Each unit records
    at start a digest of its own text and of the files named in its C([X-Deitos]) section, with
    C(ExecStartPre=+/usr/local/libexec/deitos/daemon-digest record %N). A run that was killed
    after writing a file therefore loses no restart.
  - A unit that runs without such a record is restarted once.
  - Timers, paths and sockets cannot record anything. They are restarted when their own text has
    changed since systemd loaded it.
attributes:
  check_mode:
    description: Reports what would be started, restarted and reloaded. Files that earlier tasks of
      the same check run would write are only seen through O(planned).
    support: full
  diff_mode:
    description: Shows the state and start-up of each unit that changes, and why.
    support: full
  platform:
    description: Target OS families on which the module works.
    support: full
    platforms: posix
options:
  daemons:
    description: The units.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the unit; C(.service) may be left out.
        type: str
        required: true
      state:
        description: Whether it runs.
        type: str
        choices: [started, stopped]
        default: started
      enabled:
        description: Whether it starts at boot.
        type: bool
        default: true
  restart:
    description: Whether to restart what runs on old inputs. When V(false) such units are only
      reported, as RV(restart_needed).
    type: bool
    default: true
  settle:
    description: For how many seconds a unit that was just started must stay up.
    type: float
    default: 2
  planned:
    description: In check mode, what earlier tasks would write, as the return values C(planned) of
      M(deitos.cluster.host_files) and M(deitos.cluster.hadoop_config) tell it. A null value is a
      repair that brings back what the unit was started with, such as a keytab with the same keys.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: The NameNode runs on its current configuration
  deitos.cluster.daemon:
    daemons:
      - name: hdfs-namenode
    restart: "{{ restart_policy == 'rolling' }}"

- name: Foretell restarts in check mode too
  deitos.cluster.daemon:
    daemons:
      - name: hdfs-datanode
    planned: "{{ hdfs_files.planned | default({}) | combine(hdfs_config.planned | default({})) }}"
"""

RETURN = r"""
started:
  description: Units that were, or in check mode would be, started.
  returned: always
  type: list
  elements: str
  sample: [hdfs-namenode]
stopped:
  description: Units that were stopped.
  returned: always
  type: list
  elements: str
  sample: []
restarted:
  description: Units that were restarted.
  returned: always
  type: list
  elements: str
  sample: [hdfs-datanode]
reloaded:
  description: Units that were reloaded.
  returned: always
  type: list
  elements: str
  sample: []
restart_needed:
  description: Units that run on old inputs and were not restarted, because O(restart) is false.
  returned: always
  type: list
  elements: str
  sample: []
reasons:
  description: For each unit that is not on its current inputs, the files that differ.
  returned: always
  type: dict
  sample: {hdfs-datanode: [/etc/hadoop/hdfs-site.xml]}
"""

import glob
import json
import os
import time

from ansible.module_utils.basic import AnsibleModule

DIGEST = "/usr/local/libexec/deitos/daemon-digest"
STATE = (
    *("Id", "LoadState", "ActiveState", "SubState", "UnitFileState"),
    *("NeedDaemonReload", "DropInPaths"),
)
OUTCOME = ("Result", "ExecMainStatus", "NRestarts", "ConditionResult")
RUNNING = ("active", "reloading")
UNIT_DIRECTORIES = (
    *("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"),
    *("/usr/lib/systemd/system", "/lib/systemd/system"),
)
JOURNAL_LINES = "20"
# States of a unit file that systemctl enable cannot and need not change.
FIXED = ("static", "indirect", "alias", "transient")


def is_service(name):
    """Whether a name means a service; other kinds of units have their suffix."""
    return not name.endswith((".timer", ".path", ".socket", ".mount", ".target"))


def unit_name(name):
    """A unit's name with its suffix."""
    return f"{name}.service" if is_service(name) and not name.endswith(".service") else name


def has_unknown_drop_in(unit, listed):
    """Whether a unit has a drop-in that systemd did not load.

    systemd caches which directories there are: of a drop-in in a new directory it says
    NeedDaemonReload=no.
    """
    known = {os.path.basename(path) for path in listed.split()}
    return any(
        os.path.basename(path) not in known and os.path.isfile(path) and os.path.getsize(path)
        for directory in UNIT_DIRECTORIES
        for path in glob.glob(f"{directory}/{glob.escape(unit)}.d/*.conf")
    )


class Daemons:
    """The units of one call: their state, the difference, and what removes it."""

    def __init__(self, module):
        self.module = module
        self.check = module.check_mode
        self.wanted = {item["name"]: item for item in module.params["daemons"]}
        self.names = list(self.wanted)
        self.systemctl = module.get_bin_path("systemctl", required=True)
        self.reload_needed = []
        self.result = {
            "changed": False,
            "started": [],
            "stopped": [],
            "restarted": [],
            "reloaded": [],
            "restart_needed": [],
            "reasons": {},
            "diff": [],
        }

    # --- Reading --------------------------------------------------------------------------

    def run(self, *arguments, data=None):
        return self.module.run_command(list(arguments), data=data)

    def show(self):
        """The state of all units, from one process."""
        units = [unit_name(name) for name in self.names]
        code, out, err = self.run(
            self.systemctl,
            "show",
            f"--property={','.join(STATE + OUTCOME)}",
            "--no-pager",
            "--",
            *units,
        )
        blocks = [
            dict(line.partition("=")[::2] for line in block.splitlines())
            for block in out.strip().split("\n\n")
        ]
        if code != 0 or len(blocks) != len(units):
            self.fail(f"systemctl show failed: {(err or out).strip()}; is systemd running here?")
        return {name: blocks[i] for i, name in enumerate(self.names)}

    def explain(self, running):
        """How each running unit stands to its inputs."""
        planned = self.module.params["planned"] if self.check else {}
        services = [name for name in running if is_service(name)]
        found = {name: self.explain_other(name, planned) for name in running}
        if not services:
            return found
        if not os.path.exists(DIGEST):
            if not self.check:
                self.fail(f"{DIGEST} is missing: apply the role 'base' to this host first")
            unknown = {"state": "unknown", "changed": [], "records": True}
            return {**found, **dict.fromkeys(services, unknown)}
        code, out, err = self.run(
            DIGEST, "explain", "--planned", *services, data=json.dumps(planned)
        )
        if code != 0:
            self.fail(f"the inputs of {', '.join(services)} cannot be digested: {err.strip()}")
        return {**found, **json.loads(out)}

    def explain_other(self, name, planned):
        """How a timer, path or socket stands: only its own text counts."""
        own = [path for path in planned if os.path.basename(path) == name]
        changed = own or (["its own text"] if name in self.reload_needed else [])
        return {"state": "stale" if changed else "fresh", "changed": changed, "records": True}

    def enabled(self, name, state):
        """Whether a unit starts at boot; None when that is not for systemctl to say."""
        if state == "generated":
            # Made from an init script, of which only is-enabled knows.
            return self.run(self.systemctl, "is-enabled", "--quiet", name)[0] == 0
        if state in FIXED:
            return None
        return state.startswith("enabled")

    # --- Acting ---------------------------------------------------------------------------

    def fail(self, message):
        self.module.fail_json(msg=message, **self.result)

    def act(self, verb, names, key=None):
        """One systemctl call for several units; what fails is told with its journal."""
        if not names:
            return
        self.result["changed"] = True
        if not self.check:
            if verb in ("start", "restart"):
                # An earlier crash loop must not forbid this start.
                self.run(self.systemctl, "reset-failed", *names)
            code, out, err = self.run(self.systemctl, verb, *names)
            if code != 0:
                self.fail(self.explain_failure(verb, names, (err or out).strip()))
        if key:
            self.result[key] += names

    def explain_failure(self, verb, names, said):
        """What failed, what it said last, and what to do."""
        state = self.show()
        bad = [n for n in names if verb == "stop" or state[n]["ActiveState"] not in RUNNING]
        lines = [f"systemctl {verb} {' '.join(bad or names)} failed: {said}"]
        for name in bad or names:
            found = state[name]
            _code, out, _err = self.run(
                "journalctl", "--no-pager", "--output=cat", "-n", JOURNAL_LINES, "-u", name
            )
            lines.append(
                f"--- {name}: {found['ActiveState']} ({found['SubState']}), result"
                f" {found.get('Result')}, exit status {found.get('ExecMainStatus')};"
                f" last {JOURNAL_LINES} lines of its journal:"
            )
            lines.append(out.strip() or "(no journal)")
            if found.get("ConditionResult") == "no":
                lines.append(f"{name} was not even tried: a Condition of its unit does not hold.")
        lines.append(
            "What to do: mend the cause named above (on the host: journalctl -u"
            f" {(bad or names)[0]}) and run the playbook again; it goes on from here."
        )
        return "\n".join(lines)

    def note(self, name, before, after):
        self.result["diff"].append(
            {"before": before, "after": after, "before_header": name, "after_header": name}
        )

    def settle(self, names):
        """Tell a unit that dies right after its start from one that runs."""
        if not names or self.check or not self.module.params["settle"]:
            return
        before = self.show()
        time.sleep(self.module.params["settle"])
        after = self.show()
        died = [
            name
            for name in names
            if after[name]["ActiveState"] not in RUNNING
            or after[name].get("NRestarts") != before[name].get("NRestarts")
        ]
        if died:
            self.fail(self.explain_failure("start", died, "it went down again at once"))

    # --- The pipeline ---------------------------------------------------------------------

    def loaded(self):
        """The state of all units, with systemd knowing their files as they are on disk."""
        state = self.show()
        self.reload_needed = [
            name
            for name in self.names
            if state[name].get("NeedDaemonReload") == "yes"
            or (
                state[name]["LoadState"] == "loaded"
                and has_unknown_drop_in(unit_name(name), state[name].get("DropInPaths", ""))
            )
        ]
        missing = [n for n in self.names if state[n]["LoadState"] == "not-found"]
        if self.reload_needed or missing:
            if not self.check:
                code, _out, err = self.run(self.systemctl, "daemon-reload")
                if code != 0:
                    self.fail(f"systemctl daemon-reload failed: {err.strip()}")
                state = self.show()
            self.result["changed"] |= bool(self.reload_needed)
        for name in self.names:
            found = state[name]["LoadState"]
            # A missing unit may be what an earlier task of this check run would write.
            if found == "not-found" and (self.check or self.wanted[name]["state"] == "stopped"):
                continue
            if found == "masked":
                self.fail(
                    f"{name} is masked on this host: somebody forbade it; systemctl unmask it"
                )
            if found != "loaded":
                self.fail(f"{name}: systemd says '{found}' of this unit; is its file in place?")
        return state

    def set_boot(self, state):
        """Enable and disable what differs."""
        for wanted, verb in ((True, "enable"), (False, "disable")):
            names = []
            for name, item in self.wanted.items():
                if item["enabled"] != wanted:
                    continue
                if state[name]["LoadState"] == "not-found":
                    if wanted:
                        names.append(name)
                    continue
                actual = self.enabled(name, state[name]["UnitFileState"])
                if actual is not None and actual != wanted:
                    names.append(name)
            for name in names:
                self.note(name, {"enabled": not wanted}, {"enabled": wanted})
            self.act(verb, names)

    def reconcile(self):
        """From the state found to the state wanted."""
        if len(self.wanted) != len(self.module.params["daemons"]):
            self.fail("a unit is listed twice")
        state = self.loaded()
        self.set_boot(state)
        up = {n for n in self.names if state[n]["ActiveState"] in RUNNING}
        # One that is starting or waiting for its next try is neither up nor down.
        down = {n for n in self.names if state[n]["ActiveState"] in ("inactive", "failed")}
        to_start = [n for n in self.names if self.wanted[n]["state"] == "started" and n not in up]
        to_stop = [n for n in self.names if self.wanted[n]["state"] == "stopped" and n not in down]
        running = [n for n in self.names if self.wanted[n]["state"] == "started" and n in up]
        stale, to_reload = self.judge(self.explain(running), running)

        for name in to_stop + to_start:
            target = "stopped" if name in to_stop else "started"
            before = f"{state[name]['ActiveState']} ({state[name]['SubState']})"
            self.note(name, {"state": before}, {"state": target})
        self.act("stop", to_stop, "stopped")
        self.act("start", to_start, "started")
        if self.module.params["restart"]:
            self.act("restart", stale, "restarted")
        else:
            self.result["restart_needed"] = stale
        self.act("reload", to_reload, "reloaded")
        self.reload_needed = []
        fresh_started = self.result["started"] + self.result["restarted"]
        self.settle(fresh_started)
        self.verify(fresh_started)

    def judge(self, explained, running):
        """Which running units are on old inputs, and which need a reload only."""
        stale, to_reload = [], []
        for name in running:
            found = explained[name]
            if found["state"] == "fresh":
                continue
            self.must_record(name, found)
            why = found["changed"] or ["nothing recorded at its start"]
            self.result["reasons"][name] = why
            if found["state"] == "reload":
                to_reload.append(name)
                self.note(name, {"on old": why}, {"action": "reload"})
            else:
                stale.append(name)
                if self.module.params["restart"]:
                    self.note(name, {"on old": why}, {"action": "restart"})
        return stale, to_reload

    def must_record(self, name, found):
        """Without a record a unit would be restarted by every run."""
        if not found["records"] and not self.check:
            self.fail(
                f"{name} does not record what it starts with: its unit or a drop-in needs"
                f" 'ExecStartPre=+{DIGEST} record %N' in [Service]"
            )

    def verify(self, names):
        """A unit that is not on its inputs just after its start would be restarted for ever."""
        if self.check or not names:
            return
        for name, found in self.explain(names).items():
            self.must_record(name, found)
            if found["state"] in ("stale", "unknown"):
                self.module.warn(
                    f"{name} is not on its current inputs although it was just started"
                    f" ({', '.join(found['changed']) or 'it recorded nothing'}):"
                    " does it write one of its own inputs?"
                )


def main():
    module = AnsibleModule(
        argument_spec={
            "daemons": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"required": True},
                    "state": {"choices": ["started", "stopped"], "default": "started"},
                    "enabled": {"type": "bool", "default": True},
                },
            },
            "restart": {"type": "bool", "default": True},
            "settle": {"type": "float", "default": 2.0},
            "planned": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    daemons = Daemons(module)
    daemons.reconcile()
    module.exit_json(**daemons.result)


if __name__ == "__main__":
    main()
