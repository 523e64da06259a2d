"""The model server's process.

server.py check CONFIG   whether the model of a configuration could be served; says what it is
server.py serve CONFIG   serve it; tells systemd when the model is loaded
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import logging
import os
import pwd
import re
import socket
import sys
from pathlib import Path

USER = "llama"
LOG = logging.getLogger("deitos-llama")


def notify(state: str) -> None:
    """Tell systemd, if it started this."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.connect(address.replace("@", "\0", 1))
            door.sendall(state.encode())


def drop_privileges() -> None:
    """A model is somebody else's file: root does not parse it."""
    if os.getuid() == 0:
        user = pwd.getpwnam(USER)
        os.initgroups(USER, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)


def see_cpu() -> None:
    """llama.cpp is compiled for what every x86-64 of the last ten years has; others would crash."""
    flags = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text().partition("\n\n")[0]))
    if missing := {"avx2", "bmi2", "f16c", "fma"} - flags:
        sys.exit(f"this CPU lacks {', '.join(sorted(missing))}")


def see_digest(path: Path, checksum: str) -> None:
    """Refuse a model that is not the one that was named."""
    algorithm, _, digest = checksum.partition(":")
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: {error}")
    if found != digest.lower():
        sys.exit(f"{path}: its digest is {algorithm}:{found}, and {checksum} is named")


def check(config: dict) -> None:
    drop_privileges()
    if config["checksum"]:
        see_digest(Path(config["model_path"]), config["checksum"])
    from deitos_llama import engine

    try:
        print(f"{config['model_path']}: {engine.check(config)}")
    except engine.BadModel as error:
        sys.exit(str(error))


async def serve(config: dict) -> None:
    import uvicorn

    from deitos_llama.app import Application, Limits
    from deitos_llama.engine import BadModel, Engine
    from deitos_llama.keys import Keys

    application = Application(Keys(Path(config["keys"])), Limits(**config["limits"]))
    # uvicorn has no options for these: who is slow to shake hands, or says no goodbye (idle clients
    # do not), would hold a place or the end of the server for a minute and for half a one.
    loop = asyncio.get_running_loop()
    patience = {"ssl_handshake_timeout": 10, "ssl_shutdown_timeout": 1}
    loop.create_server = functools.partial(loop.create_server, **patience)
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            host=config["address"],
            port=config["port"],
            ssl_certfile=config["certificate"],
            ssl_keyfile=config["key"],
            http="h11",
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=config["stop_seconds"],
        )
    )
    failures = []

    async def load() -> None:
        try:
            engine = await asyncio.to_thread(Engine, config)
        except BadModel as error:
            failures.append(str(error))
            server.should_exit = True
            return
        application.ready(engine)
        LOG.info("ready: %s, %d at once", engine.model, len(engine.slots))
        notify(f"READY=1\nSTATUS=serving {engine.model}")

    notify("STATUS=loading the model")
    loading = asyncio.create_task(load())
    await server.serve()
    notify("STOPPING=1")
    loading.cancel()
    if application.engine:
        for slot in application.engine.slots:
            slot.abort()
    if failures:
        sys.exit(failures[0])


def main(arguments: list[str]) -> None:
    if len(arguments) != 2 or arguments[0] not in ("check", "serve"):
        sys.exit(__doc__)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    config = json.loads(Path(arguments[1]).read_text())
    # What a new release does not serve leaves the old one in use, which the old file names.
    sys.path.insert(1, f"{config['release']}/site-packages")
    see_cpu()
    if arguments[0] == "check":
        check(config)
    else:
        asyncio.run(serve(config))
        # Threads that llama.cpp still has at work are not waited for.
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
