"""hdfs_acl against `hdfs dfs -setfacl`: generated cases, each done by both on twins of one path."""

from __future__ import annotations

import base64
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from modulerun import Step, on_lab
from test_module_hdfs_acl import ACL, described

TOP = "/tmp/hdfs_acl_twins"
NAMES = ("alice", "bob", "staff", "sales")
COUNT = 300
SEED = int(os.environ.get("DEITOS_SEED", "20"))
# The command's option for each state of the module.
OPTIONS = {
    "present": "-m",
    "absent": "-x",
    "exact": "--set",
    "stripped": "-b",
    "no_default": "-k",
}


def bits(rng):
    """Any permissions."""
    return "".join(letter if rng.random() < 0.6 else "-" for letter in "rwx")


def entries(rng, defaults, base=False, most=4):
    """A list of ACL entries, no two about the same; with `base`, those that must be there."""
    found = {}
    for scope in ["", "default:"] if defaults else [""]:
        for _ in range(rng.randint(0 if base else 1, most)):
            kind = rng.choice(["user", "group", "user", "group", "mask", "other"])
            name = rng.choice(["", *NAMES]) if kind in ("user", "group") else ""
            found[f"{scope}{kind}:{name}"] = bits(rng)
        if base:
            for kind in ("user", "group", "other"):
                found.setdefault(f"{scope}{kind}:", bits(rng))
    subjects = list(found)
    rng.shuffle(subjects)
    return [f"{subject}:{found[subject]}" for subject in subjects]


class Twin:
    """One generated case: what both paths are like, and what is then asked of them."""

    def __init__(self, number, rng):
        self.number = number
        self.recursive = rng.random() < 0.25
        self.directory = self.recursive or rng.random() < 0.7
        self.mode = f"{rng.choice([0, 0, 1]) if self.directory else 0}{rng.randrange(512):03o}"
        self.initial = []
        for _ in range(rng.choice([0, 1, 1, 2])):
            self.initial.append(entries(rng, self.directory and rng.random() < 0.6))
        self.state = rng.choice(["present"] * 4 + ["exact"] * 3 + ["absent"] * 3 + list(OPTIONS))
        # Now and then a file is asked for default entries, which must fail alike.
        defaults = rng.random() < (0.5 if self.directory else 0.1)
        self.entries = []
        if self.state in ("present", "exact", "absent"):
            self.entries = entries(rng, defaults, base=self.state == "exact")
        if self.state == "absent":
            self.entries = [entry.rpartition(":")[0] for entry in self.entries]

    def path(self, which):
        """The path that the command ('a') or the module ('b') works on."""
        return f"{TOP}/{which}/{self.number}"

    def preparation(self, which):
        """The commands that make a path, by the command line alone."""
        path = self.path(which)
        commands = [["-mkdir" if self.directory else "-touchz", path]]
        if self.recursive:
            commands += [["-mkdir", f"{path}/d"], ["-touchz", f"{path}/f"]]
        # A mode on top of an ACL is a mask; so it is set between them.
        first, rest = self.initial[:1], self.initial[1:]
        commands += [["-setfacl", "-m", ",".join(spec), path] for spec in first]
        commands.append(["-chmod", self.mode, path])
        commands += [["-setfacl", "-m", ",".join(spec), path] for spec in rest]
        return commands

    def commands(self):
        """What the command line does."""
        recursive = ["-R"] if self.recursive else []
        spec = [",".join(self.entries)] if self.entries else []
        path = self.path("a")
        done = [["-setfacl", *recursive, OPTIONS[self.state], *spec, path]]
        if self.state == "exact" and not any(e.startswith("default:") for e in self.entries):
            # The command keeps default entries when none are given; `exact` does not.
            done.append(["-setfacl", *recursive, "-k", path])
        return done

    def item(self):
        """What the module does."""
        return {
            "path": self.path("b"),
            "state": self.state,
            "entries": self.entries,
            "recursive": self.recursive,
        }

    def __str__(self):
        kind = "directory" if self.directory else "file"
        return f"{kind} {self.mode} {self.initial} {self.state} {self.entries} R={self.recursive}"


def generate():
    """All the cases, always the same ones for a seed."""
    rng = random.Random(SEED)
    return [Twin(number, rng) for number in range(COUNT)]


def play(twins, session, execute):
    """Do all of it; returns what to compare.

    session: runs FsShell commands in one JVM, returns [(rc, output)].
    """
    session([["-rm", "-r", "-f", "-skipTrash", TOP], ["-mkdir", "-p", f"{TOP}/a", f"{TOP}/b"]])
    prepare = [command for twin in twins for which in "ab" for command in twin.preparation(which)]
    session(prepare)
    by_command = {}
    commands = [(twin, command) for twin in twins for command in twin.commands()]
    for (twin, _command), (code, said) in zip(commands, session([c for _t, c in commands])):
        by_command.setdefault(twin.number, (code, said))
    items = {"acls": [twin.item() for twin in twins]}
    steps = [Step(ACL, items, check) for check in (True, False, False)]
    foretold, done, again = execute(steps)
    listings = session([["-getfacl", "-R", f"{TOP}/{which}"] for which in "ab"])
    seen = [described(said) for _code, said in listings]
    session([["-rm", "-r", "-f", "-skipTrash", TOP]])
    return by_command, foretold, done, again, seen


def differences(twins, outcome):
    """What is not alike, a line each."""
    by_command, foretold, done, again, (by_cli, by_module) = outcome
    errors = {error["path"]: error["msg"] for error in done.get("errors", [])}
    found = []
    for twin in twins:
        code, said = by_command[twin.number]
        refused = errors.get(twin.path("b"))
        if (code != 0) != (refused is not None):
            found.append(f"{twin}: the command says {code} {said!r}, the module {refused!r}")
        names = ["", "/d", "/f"] if twin.recursive else [""]
        for name in names if code == 0 else []:
            command, module = (
                by_cli.get(twin.path("a") + name),
                by_module.get(twin.path("b") + name),
            )
            if command is None or command != module:
                found.append(f"{twin}: {name}: {command!r} by the command, {module!r} by us")
    if foretold["acls"] != done["acls"]:
        found.append("check mode foretells other ACLs than are then set")
    if foretold["changed_paths"] != done["changed_paths"]:
        found.append("check mode foretells other paths than are then changed")
    if again["changed_paths"]:
        found.append(f"a second run changes {again['changed_paths']}")
    return found


@pytest.fixture(scope="module")
def session(cluster, daemon_key, tmp_path_factory):
    """FsShell commands on the NameNode's host, with its key, as many as wanted in one JVM."""
    javac = shutil.which("javac")
    if not javac:
        pytest.skip("needs a javac (Debian: default-jdk-headless) where the tests run")
    root = daemon_key("namenode", "hdfs", "nn")
    jars = tmp_path_factory.mktemp("jars")
    jar = next(
        line
        for line in root.ok("ls -d /opt/hadoop/share/hadoop/common/hadoop-common-*.jar").split()
        if "tests" not in line
    )
    (jars / "common.jar").write_bytes(root.machine.file(jar).content)
    source = Path(__file__).parent / "java/FsShellSession.java"
    subprocess.run(
        [javac, "--release", "11", "-cp", str(jars / "common.jar"), "-d", str(jars), str(source)],
        check=True,
        capture_output=True,
    )
    directory = root.ok("mktemp -d").strip()

    def put(name, data):
        """Write a file there, in pieces that a command line can hold."""
        root.ok(f": > {directory}/{name}")
        for start in range(0, len(data), 48000):
            piece = base64.b64encode(data[start : start + 48000]).decode()
            root.ok(f"base64 -d >> {directory}/{name}", stdin=piece)

    root.ok(f"mkdir {directory}/deitos")
    name = "deitos/FsShellSession.class"
    put(name, (jars / name).read_bytes())

    def run(commands):
        put("commands", "".join("\t".join(command) + "\n" for command in commands).encode())
        environment = f"HADOOP_CONF_DIR=/etc/hadoop HADOOP_CLASSPATH={directory}"
        run_class = f"{environment} /opt/hadoop/bin/hadoop deitos.FsShellSession"
        return parsed(root.ok(f"{run_class} < {directory}/commands"))

    yield run
    root.ok(f"rm -r {directory}")


def parsed(printed):
    """[(rc, output)] of a session."""
    answers, output = [], []
    for line in printed.splitlines():
        if line.startswith("rc="):
            answers.append((int(line[3:]), "\n".join(output)))
            output = []
        else:
            output.append(line)
    return answers


def test_the_module_does_what_setfacl_does(cluster, session):
    twins = generate()
    execute = on_lab(
        cluster.hosts("namenode")[0], {"endpoints": [cluster.web()["namenode"]], "parallel": 8}
    )
    outcome = play(twins, session, execute)
    assert differences(twins, outcome) == [], f"seed {SEED}"
    refused = [code for code, _said in outcome[0].values() if code != 0]
    # The cases must be worth something: most are done, some are refused.
    assert COUNT * 0.03 < len(refused) < COUNT * 0.5
    assert len(outcome[2]["changed_paths"]) > COUNT / 2
