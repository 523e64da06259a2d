#!/usr/bin/env python3
"""The kernel's side: an IPython kernel as the driver of an application, or beside its server.

In a container it finds deitos-kernel.json, which the server shipped with the application and which
nobody but its owner can read: the kernel's keys, the address of the server, and the key of the line
to it. Once Spark has started it calls the server there, says with proof on which ports it listens,
and holds the line. When the line ends, so does the kernel: whose server is gone does not stay.

A file of its own, for it is shipped alone. With a connection file as its argument it is a kernel of
the server's own host.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import hmac
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LAUNCH_FILE = "deitos-kernel.json"
# How often it tries to reach its server, with longer and longer pauses.
CALLS = 8
NAMES = ("spark", "sc", "sql")
# Where Spark keeps the group of the jobs that a thread begins.
GROUP = "spark.jobGroup.id"
# Seconds between the looks for jobs of an interrupted cell. Spark can refuse a group's future jobs
# by itself, but not those of its adaptive plans, which most queries are.
PAUSES = range(1, 60)
PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")


def signed(launch, key, message):
    """The line that says it, with whose it is and the proof."""
    body = json.dumps(message)
    return f"{launch} {proof(key, launch, body)} {body}\n".encode()


def proof(key, launch, body):
    return hmac.new(bytes.fromhex(key), f"{launch} {body}".encode(), hashlib.sha256).hexdigest()


def port_range(text):
    """The ports of "50500-50899"."""
    first, last = (int(port) for port in text.split("-"))
    if not 1024 <= first <= last <= 65535:
        raise ValueError(f"{text} is no range of ports")
    return range(first, last + 1)


def shuffled(ports):
    return random.sample(ports, len(ports))


def bound_socket(address, ports):
    """A TCP socket on one of these ports."""
    for port in shuffled(ports):
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((address, port))
            return bound
        except OSError:
            bound.close()
    raise OSError(f"no port of {ports[0]}-{ports[-1]} is free on {address}")


def keep_alive(connection):
    """Have the end of a host noticed, in about three minutes."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 8)


def address_towards(server):
    """The address of this host that the server's host can reach; nothing is sent."""
    host, port = server.rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))
        return probe.getsockname()[0]


def call(launch, message):
    """Call the server, say it, and hold the line."""
    line = taken_call(launch["server"], signed(launch["launch"], launch["line_key"], message))
    line.settimeout(None)
    keep_alive(line)
    threading.Thread(target=hold, args=(line,), daemon=True).start()


def taken_call(server, text):
    """The connection on which the server has taken it: others may crowd its port for a while."""
    host, port = server.rsplit(":", 1)
    for attempt in range(CALLS):
        time.sleep(attempt)
        with contextlib.suppress(OSError):
            line = socket.create_connection((host, int(port)), timeout=30)
            line.sendall(text)
            if line.recv(1):
                return line
    raise ConnectionError(f"the server at {server} did not take the kernel's call")


def hold(line):
    """Wait for the end of the line, which is the end of the kernel."""
    with contextlib.suppress(OSError):
        line.recv(1)
    os._exit(0)


class CellJobs:
    """Makes what Spark does for a cell a group of jobs, so that an interrupt ends all of it.

    Also what begins later: the JVM may still be planning a job when Python has long been stopped.
    """

    def __init__(self, shell):
        self.group = None
        shell.events.register("pre_run_cell", self.begin)
        shell.events.register("post_run_cell", self.end)

    def begin(self, _info):
        context = active_context()
        # Of a context that has ended, the cell itself hears soon enough.
        with contextlib.suppress(Exception):
            if context is None or not self.is_ours(context.getLocalProperty(GROUP)):
                return
            group = f"cell-{uuid.uuid4().hex}"
            context.setLocalProperty(GROUP, group)
            self.group = group

    @staticmethod
    def is_ours(group):
        """A group that a person has named stays."""
        return group is None or group.startswith("cell-")

    def end(self, _result):
        self.group = None

    def cancel(self):
        """Cancel what Spark does, and for half an hour what it begins for the present cell."""
        group, context = self.group, active_context()
        if context is None:
            return
        # One that has ended has nothing left to cancel.
        with contextlib.suppress(Exception):
            context.cancelAllJobs()
            for pause in PAUSES if group else ():
                time.sleep(pause)
                context.cancelJobGroup(group)


def active_context():
    if "pyspark" not in sys.modules:
        return None
    from pyspark import SparkContext

    return SparkContext._active_spark_context


def kernel_app(ports=None):
    """The class of an IPython kernel that listens on these ports, or on those it is given."""
    from ipykernel.ipkernel import IPythonKernel
    from ipykernel.kernelapp import IPKernelApp

    class Kernel(IPythonKernel):
        jobs = None

        async def interrupt_request(self, stream, ident, parent):
            # The thread that runs the cell waits for the JVM, so another one has to speak to it.
            threading.Thread(target=self.jobs.cancel, daemon=True).start()
            await super().interrupt_request(stream, ident, parent)

    class App(IPKernelApp):
        kernel_class = Kernel

        def _try_bind_socket(self, s, port):
            import zmq

            if port or not ports:
                return super()._try_bind_socket(s, port)
            for candidate in shuffled(ports):
                try:
                    return super()._try_bind_socket(s, candidate)
                except zmq.ZMQError as error:
                    if error.errno != zmq.EADDRINUSE:
                        raise
            raise OSError(f"no port of {ports[0]}-{ports[-1]} is free on {self.ip}")

        def init_heartbeat(self):
            if ports:
                with bound_socket(self.ip, ports) as free:
                    self.hb_port = free.getsockname()[1]
            super().init_heartbeat()

    return App


def spark_builder():
    from pyspark.sql import SparkSession

    return SparkSession.builder


def provide(shell, spark):
    values = (spark, spark.sparkContext, spark.sql)
    shell.push(dict(zip(NAMES, values, strict=True)), interactive=False)


def tell_once(shell, notice):
    """Print it before the output of the first cell."""

    def tell(_info):
        shell.events.unregister("pre_run_cell", tell)
        print(notice, file=sys.stderr)

    shell.events.register("pre_run_cell", tell)


def in_container():
    launch = json.loads(Path(LAUNCH_FILE).read_text())
    # A person's home directory is on the host of the server alone.
    os.environ["HOME"] = os.getcwd()
    try:
        address = address_towards(launch["server"])
        ports = port_range(launch["ports"])
        connection = Path("connection.json")
        connection.touch(mode=0o600)
        known = launch["connection"] | {"ip": address} | dict.fromkeys(PORTS, 0)
        connection.write_text(json.dumps(known))
        # One thread imports both: pyspark imports ipykernel, and two that import what depends on
        # each other get halves of it.
        kernel_class, builder = kernel_app(ports), spark_builder()
        with ThreadPoolExecutor(1) as pool:
            session = pool.submit(builder.getOrCreate)
            app = kernel_class.instance(connection_file=str(connection.resolve()))
            app.initialize([])
            spark = session.result()
        provide(app.shell, spark)
        app.kernel.jobs = CellJobs(app.shell)
        if launch["notice"]:
            tell_once(app.shell, launch["notice"])
    except BaseException as error:
        call(launch, {"error": f"{type(error).__name__}: {error}"[:2000]})
        raise
    call(
        launch,
        {"ip": address, "application": spark.sparkContext.applicationId}
        | {name: getattr(app, name) for name in PORTS},
    )
    app.start()


def needs_spark(cell, known):
    """Whether a cell uses one of the names that nobody has given a meaning yet."""
    try:
        found = [node for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Name)]
    except (SyntaxError, ValueError):
        # A magic, in whose text any word may be a name.
        used, given = set(re.findall(r"\w+", cell)), set()
    else:
        used = {node.id for node in found if isinstance(node.ctx, ast.Load)}
        given = {node.id for node in found if isinstance(node.ctx, ast.Store)}
    return any(name in used - given and name not in known for name in NAMES)


def has_ticket():
    return subprocess.run(["klist", "-s"], check=False).returncode == 0


def start_spark_at_need(shell, words):
    """Before the first cell that needs it: who needs no Spark takes no place in YARN."""

    def start(info):
        if not needs_spark(info.raw_cell or "", shell.user_ns):
            return
        # A JVM that found no ticket would look for none again.
        if not has_ticket():
            print(words.NO_TICKET_FOR_SPARK, file=sys.stderr)
            return
        try:
            spark = spark_builder().getOrCreate()
        except Exception as error:
            print(words.no_spark(str(error)), file=sys.stderr)
            return
        shell.events.unregister("pre_run_cell", start)
        provide(shell, spark)

    shell.events.register("pre_run_cell", start)


def beside_the_server(connection_file):
    from deitos_kernels import words

    # Not this file's directory, but Spark's modules, here and in programs that cells start.
    modules = [str(path) for path in Path(os.environ["SPARK_HOME"]).glob("python/lib/*.zip")]
    sys.path[:1] = modules
    os.environ["PYTHONPATH"] = os.pathsep.join(modules)
    app = kernel_app().instance(connection_file=connection_file)
    app.initialize([])
    start_spark_at_need(app.shell, words)
    app.kernel.jobs = CellJobs(app.shell)
    app.start()


if __name__ == "__main__":
    # What was inherited is not to be trusted: a kernel that ignores SIGINT cannot be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if len(sys.argv) > 1:
        beside_the_server(sys.argv[1])
    else:
        in_container()
