#!/usr/bin/env python3
"""Time one hadoop_config call for many files, against one ansible.builtin.template task a file.

Both write the same properties in a temporary directory of this computer, as tasks of one
ansible-playbook run. The first write and a run that changes nothing are timed a few times in turn;
what counts of each is the median. The template does not check anything; the module does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import ansible_runner
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.deitos.cluster.plugins.module_utils import hadoop_xml  # noqa: E402

# As a role would keep it: layers merged, values escaped.
TEMPLATE = """\
<?xml version="1.0" encoding="UTF-8"?>
<configuration>
{% for name, value in (defaults | combine(computed) | combine(overrides)).items() %}
  <property>
    <name>{{ name }}</name>
    <value>{{ value | string | e }}</value>
  </property>
{% endfor %}
</configuration>
"""


def layers(number, properties):
    """What one file is made from; of every ten properties, one is computed and one overridden."""
    names = [f"bench.site{number}.property{one}" for one in range(properties)]
    return {
        "defaults": {name: f"/data/{one}/of & for <{name}>" for one, name in enumerate(names)},
        "computed": {name: f"https://{name}.example.org:9871" for name in names[::10]},
        "overrides": {name: one for one, name in enumerate(names[5::10])},
    }


def tasks(options, root, round_number):
    """First and second run of both ways, each task named by (way, run)."""
    mine = {"owner": str(os.getuid()), "group": str(os.getgid()), "mode": "0644"}
    data = {n: layers(n, options.properties) for n in range(options.files)}
    directories = {way: root / f"{way}{round_number}" for way in ("module", "template")}
    for directory in directories.values():
        directory.mkdir()
    for run in ("first", "no-op"):
        yield {
            "name": f"module {run}",
            "deitos.cluster.hadoop_config": {
                "directory": str(directories["module"]),
                "files": [{"name": f"site{n}.xml", **data[n]} for n in data],
                **mine,
            },
        }
        for n, values in data.items():
            yield {
                "name": f"template {run}",
                "ansible.builtin.template": {
                    "src": str(root / "site.xml.j2"),
                    "dest": str(directories["template"] / f"site{n}.xml"),
                    **mine,
                },
                "vars": values,
            }


def play(root, tasks):
    """[(task's name, whether it changed something, seconds)] of one ansible-playbook run."""
    playbook = root / "bench.yml"
    head = {"name": "Bench", "hosts": "localhost", "connection": "local", "gather_facts": False}
    playbook.write_text(yaml.safe_dump([{**head, "tasks": tasks}], sort_keys=False))
    done = []

    def note(event):
        if event["event"] == "runner_on_ok":
            data = event["event_data"]
            done.append((data["task"], data["res"]["changed"], data["duration"]))
        return True

    runner = ansible_runner.run(
        private_data_dir=str(root),
        playbook=str(playbook),
        inventory=f"localhost ansible_python_interpreter={sys.executable}",
        envvars={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_INVENTORY": ""},
        event_handler=note,
        quiet=True,
    )
    if runner.status != "successful" or len(done) != len(tasks):
        sys.exit(f"the work was not done: {runner.stdout.read()[-2000:]}")
    return done


def same(root, options):
    """Both ways must have written the same properties."""
    for number in range(options.files):
        one, other = (
            {
                name: found.value
                for name, found in hadoop_xml.parse_xml(
                    (root / f"{way}0/site{number}.xml").read_bytes()
                ).items()
            }
            for way in ("module", "template")
        )
        if one != other or len(one) != options.properties:
            sys.exit(f"the two ways do not agree on site{number}.xml")


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=6)
    parser.add_argument("--properties", type=int, default=40, help="how many a file has")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deitos-bench-") as directory:
        root = Path(directory)
        (root / "site.xml.j2").write_text(TEMPLATE)
        rounds = range(options.rounds)
        results = iter(play(root, [t for number in rounds for t in tasks(options, root, number)]))
        taken = {}
        for _round in rounds:
            for run in ("first", "no-op"):
                for way, count in (("module", 1), ("template", options.files)):
                    part = [next(results) for _task in range(count)]
                    for name, changed, _seconds in part:
                        if name != f"{way} {run}" or changed != (run == "first"):
                            sys.exit(f"{name}: changed is {changed}")
                    taken.setdefault((way, run), []).append(sum(p[2] for p in part))
        same(root, options)
    median = {key: statistics.median(seconds) for key, seconds in taken.items()}
    print(f"{options.files} files of {options.properties} properties, {options.rounds} rounds")
    for run in ("first", "no-op"):
        module, template = median["module", run], median["template", run]
        print(f"{run + ': one hadoop_config call':32}{module:6.2f} s")
        print(f"{f'{run}: {options.files} template tasks':32}{template:6.2f} s")
        print(f"{f'ratio template/module, {run}':32}{template / module:6.2f}")


if __name__ == "__main__":
    main()
