"""What kernels and their servers say to each other, on real sockets, and to people."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import shlex
import socket
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

FILES = Path(__file__).resolve().parents[2] / "roles/jupyter/files"
sys.path.insert(0, str(FILES))
launcher = importlib.import_module("deitos_kernels.launcher")
lifeline = importlib.import_module("deitos_kernels.lifeline")
words = importlib.import_module("deitos_kernels.words")
sys.path.remove(str(FILES))

HERE = "127.0.0.1"
HELLO = {"ip": HERE, "shell_port": 50500}
# The kernel's end of a line, in a process of its own as in a container.
KERNEL = """
import json, sys, threading
sys.path.insert(0, sys.argv[1])
import launcher
launcher.call(json.loads(sys.argv[2]), {"ip": "127.0.0.1", "shell_port": 50500})
print("called", flush=True)
threading.Event().wait()
"""


def free_range(count):
    """Some ports in a row that nobody listens on."""
    for first in range(42000, 60000, count):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(launcher.bound_socket(HERE, range(port, port + 1)))
            except OSError:
                continue
            return f"{first}-{first + count - 1}"
    raise AssertionError("no free ports")


def exchange(test):
    """Run it with the server's side listening."""

    async def run():
        lines = lifeline.Lines(HERE, free_range(4))
        await lines.serve()
        try:
            await test(lines)
        finally:
            lines.server.close()

    asyncio.run(run())


async def say(lines, text, address=HERE):
    """Say it on a connection of its own; the server's answer is its hanging up, or nothing."""
    host, port = lines.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=(address, 0))
    writer.write(text)
    await writer.drain()
    return reader, writer


async def hung_up(reader):
    return await asyncio.wait_for(reader.read(), 30) == b""


def launch_of(lines, line):
    return {"launch": line.launch, "line_key": line.key, "server": lines.address}


async def kernel(launch):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KERNEL, str(FILES / "deitos_kernels"), json.dumps(launch)),
        stdout=subprocess.PIPE,
    )


# --- The line -----------------------------------------------------------------------------------


def test_a_kernel_is_heard_and_told_so():
    async def test(lines):
        line = lines.expect()
        reader, writer = await say(lines, launcher.signed(line.launch, line.key, HELLO))
        assert await asyncio.wait_for(line.said, 30) == HELLO
        assert await asyncio.wait_for(reader.read(100), 30) == lifeline.TAKEN
        assert not line.gone.is_set()
        writer.close()
        await asyncio.wait_for(line.gone.wait(), 30)

    exchange(test)


def test_who_has_not_the_key_is_not_heard():
    """Neither with another key, nor with another's proof, nor for a launch that nobody made."""

    async def test(lines):
        line, other = lines.expect(), lines.expect()
        good = launcher.signed(line.launch, line.key, HELLO)
        changed = good.replace(b"50500", b"50501")
        for text in (
            launcher.signed(line.launch, other.key, HELLO),
            launcher.signed("0" * 32, line.key, HELLO),
            good.replace(line.launch.encode(), other.launch.encode()),
            changed,
            b"\n",
            b"one two\n",
            b"\xff\xfe \xff x\n",
            b"x" * (2 * lifeline.LONGEST_MESSAGE),
        ):
            reader, writer = await say(lines, text)
            with contextlib.suppress(ConnectionResetError):
                assert await hung_up(reader), text
            writer.close()
        assert not line.said.done() and not other.said.done()
        await say(lines, good)
        assert await asyncio.wait_for(line.said, 30) == HELLO

    exchange(test)


def test_a_second_call_for_a_launch_is_not_taken():
    async def test(lines):
        line = lines.expect()
        text = launcher.signed(line.launch, line.key, HELLO)
        await say(lines, text)
        await asyncio.wait_for(line.said, 30)
        reader, _ = await say(lines, text)
        assert await hung_up(reader)
        assert not line.gone.is_set()

    exchange(test)


def test_a_launch_that_was_given_up_is_not_heard():
    async def test(lines):
        line = lines.expect()
        lines.forget(line)
        reader, _ = await say(lines, launcher.signed(line.launch, line.key, HELLO))
        assert await hung_up(reader)
        assert line.gone.is_set() and not line.said.done()

    exchange(test)


def test_who_says_nothing_keeps_nobody_waiting(monkeypatch):
    monkeypatch.setattr(lifeline, "SECONDS_TO_SPEAK", 0.5)

    async def test(lines):
        line = lines.expect()
        silent, _ = await say(lines, b"")
        await say(lines, launcher.signed(line.launch, line.key, HELLO))
        assert await asyncio.wait_for(line.said, 30) == HELLO
        assert await hung_up(silent)

    exchange(test)


def test_many_who_say_nothing_take_neither_a_server_s_files_nor_a_kernel_s_turn(monkeypatch):
    monkeypatch.setattr(lifeline, "MOST_UNPROVEN", 3)

    async def test(lines):
        line = lines.expect()
        # One at another address, who is not to suffer from the crowd.
        other, _ = await say(lines, b"", "127.0.0.2")
        crowd = [await say(lines, b"") for _ in range(4)]
        for reader, _ in crowd[:2]:
            assert await hung_up(reader)
        assert len(lines.unproven) == 3
        assert not any(reader.at_eof() for reader in (other, *(one for one, _ in crowd[2:])))
        process = await kernel(launch_of(lines, line))
        assert await asyncio.wait_for(line.said, 30) == HELLO
        assert await hung_up(crowd[2][0])
        assert not line.gone.is_set()
        process.kill()
        await process.wait()

    exchange(test)


def test_a_kernel_that_was_hung_up_on_calls_again():
    """As one whose server's port others crowd; taken, it holds the line."""

    async def run():
        calls = asyncio.Queue()

        async def answer(reader, writer):
            await calls.put((reader, writer, await reader.readline()))

        server = await asyncio.start_server(answer, HERE, 0)
        address = f"{HERE}:{server.sockets[0].getsockname()[1]}"
        launch = {"launch": "0" * 32, "line_key": "0" * 64, "server": address}
        process = await kernel(launch)
        said = launcher.signed(launch["launch"], launch["line_key"], HELLO)
        for _ in range(2):
            _, writer, text = await asyncio.wait_for(calls.get(), 30)
            assert text == said
            writer.close()
        _, writer, text = await asyncio.wait_for(calls.get(), 30)
        assert text == said
        writer.write(lifeline.TAKEN)
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"called\n"
        writer.close()
        assert await asyncio.wait_for(process.wait(), 30) == 0
        server.close()

    asyncio.run(run())


def test_a_line_that_breaks_has_ended():
    """As when the kernel's host is gone: an error of the operating system's, no goodbye."""

    async def test(lines):
        line = lines.expect()
        _, writer = await say(lines, launcher.signed(line.launch, line.key, HELLO))
        await asyncio.wait_for(line.said, 30)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        await asyncio.wait_for(line.gone.wait(), 30)

    exchange(test)


def test_a_kernel_ends_when_its_server_hangs_up():
    async def test(lines):
        line = lines.expect()
        process = await kernel(launch_of(lines, line))
        assert await asyncio.wait_for(line.said, 30) == HELLO
        assert await process.stdout.readline() == b"called\n"
        assert process.returncode is None
        line.hang_up()
        assert await asyncio.wait_for(process.wait(), 30) == 0

    exchange(test)


def test_a_server_notices_that_a_kernel_was_killed():
    async def test(lines):
        line = lines.expect()
        process = await kernel(launch_of(lines, line))
        await asyncio.wait_for(line.said, 30)
        process.kill()
        await process.wait()
        await asyncio.wait_for(line.gone.wait(), 30)

    exchange(test)


def test_a_kernel_ends_with_a_server_that_was_killed():
    """As by SIGKILL: nobody says goodbye, the operating system ends the connection."""
    server = textwrap.dedent(
        f"""
        import asyncio, json, sys
        sys.path.insert(0, {str(FILES)!r})
        from deitos_kernels.lifeline import Lines
        async def main():
            lines = Lines("{HERE}", "{free_range(4)}")
            await lines.serve()
            line = lines.expect()
            print(json.dumps([line.launch, line.key, lines.address]), flush=True)
            await line.said
            print("heard", flush=True)
            await asyncio.Event().wait()
        asyncio.run(main())
        """
    )

    async def run():
        serving = await asyncio.create_subprocess_exec(
            sys.executable, "-c", server, stdout=subprocess.PIPE
        )
        launch, key, address = json.loads(await serving.stdout.readline())
        process = await kernel({"launch": launch, "line_key": key, "server": address})
        assert await serving.stdout.readline() == b"heard\n"
        serving.kill()
        await serving.wait()
        assert await asyncio.wait_for(process.wait(), 30) == 0

    asyncio.run(run())


def test_secrets_of_launches_differ_and_are_long():
    async def test(lines):
        found = [lines.expect() for _ in range(3)]
        assert len({line.key for line in found} | {line.launch for line in found}) == 6
        assert all(len(bytes.fromhex(line.key)) == 32 for line in found)

    exchange(test)


# --- Ports --------------------------------------------------------------------------------------


def test_a_range_is_kept_to_and_its_end_is_said():
    text = free_range(3)
    ports = launcher.port_range(text)
    assert len(ports) == 3
    with contextlib.ExitStack() as stack:
        for _ in ports:
            bound = stack.enter_context(launcher.bound_socket(HERE, ports))
            bound.listen()
            assert bound.getsockname()[1] in ports
        with pytest.raises(OSError, match="no port of"):
            launcher.bound_socket(HERE, ports)


@pytest.mark.parametrize("text", ["", "1-2", "50500", "50600-50500", "60000-70000", "a-b"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ValueError, match=r"range|literal|unpack"):
        launcher.port_range(text)


def test_the_address_is_the_one_towards_the_server():
    assert launcher.address_towards(f"{HERE}:9") == HERE


def test_a_silent_peer_is_noticed_by_the_operating_system():
    with socket.socket() as connection:
        launcher.keep_alive(connection)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


# --- Words --------------------------------------------------------------------------------------

APP = {"id": "application_1_0001", "queue": "root.default"}


def test_a_full_queue_is_told_from_a_slow_start_and_from_no_answer():
    assert "had no room" in words.too_slow(APP | {"state": "ACCEPTED"}, 9)
    placed = APP | {"state": "ACCEPTED", "amHostHttpAddress": "worker1:8044"}
    assert "was not ready within 9 s" in words.too_slow(placed, 9)
    assert "not handed to YARN within 9 s" in words.too_slow(None, 9)


def test_spark_submit_s_reason_is_found():
    trace = (
        'WARN something\nException in thread "main" java.lang.IllegalArgumentException: Required '
        "AM memory (99384 MB) is above the max threshold (2048 MB)\n\tat org.apache.Spark\n"
    )
    assert "larger than a container" in words.not_submitted(trace)
    assert "above the max threshold" in words.not_submitted(trace)
    queue = "Caused by: org.apache.AccessControlException: no rights on root.private\n\tat x.Y"
    assert "no rights on root.private" in words.not_submitted(queue)
    assert words.not_submitted("IOException: GSS initiate failed") == words.NO_TICKET
    assert "it said nothing" in words.not_submitted("")


@pytest.mark.parametrize(
    ("state", "said"), [("KILLED", "was killed in YARN"), ("FAILED", "failed in YARN")]
)
def test_the_next_kernel_says_what_became_of_the_last(state, said):
    app = APP | {"state": state, "diagnostics": "was killed by user admin1\n"}
    assert said in words.lost(app)
    assert "was killed by user admin1" in words.lost(app)
    assert "is gone" in words.lost(None)


def test_long_reasons_are_cut():
    assert len(words.ended_early(APP | {"state": "FAILED", "diagnostics": "x" * 9999})) < 700


def test_why_spark_did_not_start_is_said_in_a_line():
    trace = (
        "An error occurred while calling None.org.apache.spark.api.java.JavaSparkContext.\n"
        ": org.apache.hadoop.yarn.exceptions.YarnException: queue root.x is STOPPED\n\tat a.B\n"
    )
    said = words.no_spark(trace)
    assert "queue root.x is STOPPED" in said and "at a.B" not in said


# --- Spark beside the server --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "known", "needed"),
    [
        ("spark.range(3).count()", (), True),
        ("def f():\n    return sc.version", (), True),
        ("%time sql('SELECT 1')", (), True),
        ("%%time\nspark.range(3)", (), True),
        ("x = await spark.y", (), True),
        ("print(f'{sc.version}')", (), True),
        ("1 + 1", (), False),
        ("# spark, sc and sql are not needed", (), False),
        ("sql = 'SELECT 1'\nprint(sql)", (), False),
        ("print('spark', x.sql)", (), False),
        ("spark = SparkSession.builder.getOrCreate()\nspark.range(3)", (), False),
        ("spark.range(3)", ("spark",), False),
        ("spark.range(3); sql('SELECT 1')", ("spark",), True),
        ("!ls ~", (), False),
    ],
)
def test_spark_is_started_for_who_needs_it(cell, known, needed):
    assert launcher.needs_spark(cell, known) is needed


class Shell:
    """Of IPython's, what a kernel uses: names, and calls before each cell."""

    def __init__(self):
        self.user_ns, self.calls = {}, []
        self.events = self

    def register(self, _event, call):
        self.calls.append(call)

    def unregister(self, _event, call):
        self.calls.remove(call)

    def push(self, names, interactive):
        assert not interactive
        self.user_ns |= names

    def run(self, cell):
        for call in list(self.calls):
            call(SimpleNamespace(raw_cell=cell))


def test_who_has_no_spark_reads_why_and_gets_it_with_a_later_cell(monkeypatch, capsys):
    session = SimpleNamespace(sparkContext="context", sql="sql")
    tickets = iter([False, True, True])
    starts = iter([RuntimeError("Exception: the queue is full"), session])

    def start_spark():
        if isinstance(one := next(starts), Exception):
            raise one
        return one

    monkeypatch.setattr(launcher, "has_ticket", lambda: next(tickets))
    builder = SimpleNamespace(getOrCreate=start_spark)
    monkeypatch.setattr(launcher, "spark_builder", lambda: builder)
    shell = Shell()
    launcher.start_spark_at_need(shell, words)
    for said in (words.NO_TICKET_FOR_SPARK, "the queue is full"):
        shell.run("spark.range(3)")
        assert said in capsys.readouterr().err
        assert shell.user_ns == {}
    shell.run("x = 1")
    shell.run("spark.range(3)")
    assert shell.user_ns == {"spark": session, "sc": "context", "sql": "sql"}
    assert shell.calls == []


def test_an_interrupt_is_for_the_cell_that_runs_and_its_group_for_no_other(monkeypatch):
    properties, cancelled = {}, []
    context = SimpleNamespace(
        getLocalProperty=properties.get,
        setLocalProperty=properties.__setitem__,
        cancelAllJobs=lambda: cancelled.append("all"),
        cancelJobGroup=cancelled.append,
    )
    monkeypatch.setattr(launcher, "PAUSES", [0, 0])
    monkeypatch.setattr(launcher, "active_context", lambda: context)
    events = {}
    shell = SimpleNamespace(events=SimpleNamespace(register=events.__setitem__))
    jobs = launcher.CellJobs(shell)
    begin, end = events["pre_run_cell"], events["post_run_cell"]
    begin(None)
    first = properties[launcher.GROUP]
    jobs.cancel()
    end(None)
    jobs.cancel()
    begin(None)
    second = properties[launcher.GROUP]
    jobs.cancel()
    end(None)
    assert first != second
    assert cancelled == ["all", first, first, "all", "all", second, second]
    # A person's own group stays, in the cells to come as well.
    properties[launcher.GROUP] = "mine"
    begin(None)
    jobs.cancel()
    assert properties[launcher.GROUP] == "mine" and cancelled[7:] == ["all"]


# --- The specs ----------------------------------------------------------------------------------

PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars_files: [{role}/defaults/main.yml, {role}/vars/main/hub.yml, {role}/vars/main/kernels.yml]
  tasks:
    - ansible.builtin.copy:
        dest: "{place}/{{{{ item.path | dirname | basename }}}}.json"
        content: "{{{{ item.content }}}}"
        mode: "0600"
      loop: "{{{{ jupyter_kernel_spec_files | selectattr('content', 'defined') }}}}"
    - ansible.builtin.copy:
        dest: "{place}/old"
        content: "{{{{ jupyter_kernel_old_files | to_json }}}}"
        mode: "0600"
"""
SPECS = "/usr/local/share/jupyter/kernels"
SITE = {
    "ansible_python_interpreter": sys.executable,
    "cluster_nameservice": "deitos",
    "cluster_spark_home": "/opt/spark",
    "cluster_spark_conf_dir": "/etc/spark",
    "jupyter_python_url": "file:///srv/kernel-1.tar.gz",
    "jupyter_python_checksum": "sha256:" + "0" * 64,
    "jupyter_kernels_found": {
        "files": [{"path": f"{SPECS}/{name}/kernel.json"} for name in ("plain", "removed")]
    },
    "jupyter_kernels": [
        {"name": "plain", "display_name": "Plain", "mode": "yarn"},
        {
            "name": "large",
            "display_name": "Large",
            "mode": "yarn",
            "driver_memory_mb": 4096,
            "executor_memory_mb": 2048,
            "executor_cores": 2,
            "max_executors": 7,
            "queue": "reports",
            "python_archive": "hdfs:///envs/more.tar.gz",
            "conf": {"spark.sql.shuffle.partitions": 8},
        },
        {"name": "local", "display_name": "Local", "mode": "local", "conf": {"spark.a": "b c"}},
    ],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What the role writes for some kernels, and would remove."""
    place = tmp_path_factory.mktemp("specs")
    role = FILES.parent
    for name in ("files", "templates"):
        (place / name).symlink_to(role / name)
    (place / "play.yml").write_text(PLAYBOOK.format(role=role, place=place))
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,"),
            *("-e", json.dumps(SITE), str(place / "play.yml")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture(scope="module")
def specs(place):
    return {path.stem: json.loads(path.read_text()) for path in place.glob("*.json")}


@pytest.fixture(scope="module")
def old(place):
    return json.loads((place / "old").read_text())


def test_a_kernel_on_yarn_is_a_job_of_spark_s(specs):
    spec = specs["plain"]
    program, *options, script = spec["argv"]
    assert program == "/usr/local/bin/spark-submit"
    assert script.endswith("/deitos_kernels/launcher.py")
    assert "--conf=spark.submit.deployMode=cluster" in options
    assert "--conf=spark.pyspark.python=./python/kernel-1/bin/python" in options
    assert not any("memory" in option for option in options)
    assert spec["metadata"]["kernel_provisioner"] == {"provisioner_name": "deitos-yarn"}


def test_every_size_reaches_spark(specs):
    assert {
        "--conf=spark.driver.memory=4096m",
        "--conf=spark.executor.memory=2048m",
        "--conf=spark.executor.cores=2",
        "--conf=spark.dynamicAllocation.maxExecutors=7",
        "--conf=spark.yarn.queue=reports",
        "--conf=spark.yarn.dist.archives=hdfs:///envs/more.tar.gz#python",
        "--conf=spark.pyspark.python=./python/bin/python",
        "--conf=spark.sql.shuffle.partitions=8",
    } <= set(specs["large"]["argv"])


def test_a_local_kernel_has_its_driver_here(specs):
    spec = specs["local"]
    assert spec["argv"][0] == "/opt/jupyter-python/bin/python"
    assert spec["argv"][-1] == "{connection_file}"
    options = shlex.split(spec["env"]["PYSPARK_SUBMIT_ARGS"])
    assert {"--conf=spark.submit.deployMode=client", "--conf=spark.a=b c"} <= set(options)
    assert options[-1] == "pyspark-shell"


def test_a_kernel_that_the_list_has_no_more_is_offered_no_more(old):
    assert old == [{"path": f"{SPECS}/removed/kernel.json", "state": "absent"}]


def test_every_kernel_is_encrypted_and_interrupted_by_message(specs):
    assert set(specs) == {"plain", "large", "local"}
    for spec in specs.values():
        assert spec["metadata"]["supported_encryption"] == ["curve"]
        assert spec["interrupt_mode"] == "message"


# --- The kernel's file --------------------------------------------------------------------------

# In a container: what Spark imports of IPython, and the kernel's own, must not meet half-way.
CONTAINER = {
    "ipykernel/__init__.py": "",
    "ipykernel/ipkernel.py": "class IPythonKernel: pass",
    "ipykernel/kernelapp.py": """
        class IPKernelApp:
            shell_port = iopub_port = stdin_port = control_port = hb_port = 50500
            kernel = __import__("types").SimpleNamespace()
            shell = __import__("types").SimpleNamespace(push=lambda *names, **how: None)
            shell.events = __import__("types").SimpleNamespace(register=lambda *words: None)
            def __init__(self, connection_file): pass
            instance = classmethod(lambda cls, **words: cls(**words))
            def initialize(self, arguments): pass
            def start(self): print("started", flush=True)
        """,
    "pyspark/__init__.py": "",
    "pyspark/sql.py": """
        import threading
        from types import SimpleNamespace
        assert threading.current_thread() is threading.main_thread(), "imported beside ipykernel"
        context = SimpleNamespace(applicationId="application_1_1")
        session = SimpleNamespace(sparkContext=context, sql=None)
        SparkSession = SimpleNamespace(builder=SimpleNamespace(getOrCreate=lambda: session))
        """,
}


def test_one_thread_imports_spark_and_the_kernel(tmp_path):
    for name, text in CONTAINER.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))

    async def test(lines):
        line = lines.expect()
        told = {"ports": "50500-50504", "connection": {}, "notice": ""}
        (tmp_path / "deitos-kernel.json").write_text(json.dumps(launch_of(lines, line) | told))
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, str(FILES / "deitos_kernels/launcher.py")),
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},
            stdout=subprocess.PIPE,
        )
        said = await asyncio.wait_for(line.said, 30)
        assert said.get("application") == "application_1_1", said
        assert (await asyncio.wait_for(program.communicate(), 30))[0] == b"started\n"

    exchange(test)


def test_the_kernel_s_side_needs_nothing_to_be_read():
    """It is shipped alone, and imported by servers that have neither IPython nor Spark."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import runpy; runpy.run_path('launcher.py')"],
        cwd=FILES / "deitos_kernels",
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
