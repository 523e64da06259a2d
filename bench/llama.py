#!/usr/bin/env python3
"""Time the model server against the bare library, on one model with random weights.

Both run on this computer from the release that lab/wheels/build.py made, in turn; what counts of
each is the median of tokens a second. The server answers over TLS and asks for a key.
"""

from __future__ import annotations

import argparse
import grp
import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = ROOT / "roles/llama/files"
sys.path[:0] = [str(FILES), str(ROOT / "lab/model")]

import httpx2  # noqa: E402
from build import write  # noqa: E402
from deitos_llama.keys import Store  # noqa: E402

PYTHON = "/usr/bin/python3"
LEAST = 0.95
# The same tokens of both, and no early end.
REQUEST = {"prompt": "You may", "temperature": 0, "repeat_penalty": 1.0, "logit_bias": {"0": -100}}
# One process that answers a line of JSON with a line of tokens and seconds.
BARE = """
import json, sys, time
import llama_cpp
config = json.load(open(sys.argv[1]))
names = {"n_ctx": "context", "n_batch": "batch", "n_threads": "threads"}
options = {name: config[ours] for name, ours in names.items()}
options["n_threads_batch"] = config["threads"]
llama = llama_cpp.Llama(config["model_path"], verbose=False, **options)
for line in sys.stdin:
    request = json.loads(line)
    request["logit_bias"] = {int(k): v for k, v in request["logit_bias"].items()}
    started = time.perf_counter()
    answer = llama.create_completion(**request)
    took = time.perf_counter() - started
    print(json.dumps([answer["usage"]["completion_tokens"], took]), flush=True)
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def certificate(place):
    words = ["-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    more = ["-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", *words, *more, "-keyout", place / "host.key"]
    subprocess.run([*command, "-out", place / "host.crt"], check=True, capture_output=True)


def configuration(place, release, threads):
    return {
        "release": str(release),
        "model_path": str(place / "model.gguf"),
        "model_name": "bench",
        "context": 512,
        "batch": 128,
        "threads": threads,
        "parallel": 1,
        "gpu_layers": 0,
        "chat_format": "",
        "address": "127.0.0.1",
        "port": free_port(),
        "certificate": str(place / "host.crt"),
        "key": str(place / "host.key"),
        "keys": str(place / "keys.json"),
        "stop_seconds": 1,
        "limits": {"max_tokens": 500, "request_seconds": 600},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    builder = [sys.executable, str(ROOT / "lab/wheels/build.py"), "llama"]
    archive = subprocess.run(builder, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="bench-llama-") as scratch:
        place = Path(scratch)
        subprocess.run(["tar", "-xzf", archive, "-C", place], check=True)
        (packages,) = place.glob("*/site-packages")
        write(place / "model.gguf", width=512, layers=6, forward=1376)
        certificate(place)
        key = Store(place / "keys.json", grp.getgrgid(os.getgid()).gr_name).add("bench")
        config = configuration(place, packages.parent, options.threads)
        (place / "config.json").write_text(json.dumps(config))
        environment = {**os.environ, "PYTHONPATH": f"{FILES}:{packages}"}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        bare = subprocess.Popen(
            [PYTHON, "-c", BARE, place / "config.json"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        server = subprocess.Popen(
            [PYTHON, "-m", "deitos_llama.server", "serve", place / "config.json"],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        try:
            rates = measure(options, bare, config["port"], key, place / "host.crt")
        finally:
            bare.kill()
            server.kill()
    medians = {name: statistics.median(found) for name, found in rates.items()}
    ratio = medians["server"] / medians["bare"]
    for name, rate in medians.items():
        print(f"{name:8} {rate:8.1f} tokens a second")
    print(f"ratio    {ratio:8.3f} (at least {LEAST})")
    return 0 if ratio >= LEAST else 1


def wait(web):
    """Until the server has loaded the model."""
    for _ in range(300):
        try:
            if web.get("/ready").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit("the server is not ready")


def measure(options, bare, port, key, authority):
    """Tokens a second of each way, in turn; the first round of each is not counted."""
    trust = ssl.create_default_context(cafile=str(authority))
    web = httpx2.Client(base_url=f"https://localhost:{port}", verify=trust, timeout=600)
    headers = {"Authorization": f"Bearer {key}"}
    request = {**REQUEST, "max_tokens": options.tokens}
    wait(web)
    rates = {"bare": [], "server": []}
    for number in range(options.rounds + 1):
        bare.stdin.write(json.dumps(request) + "\n")
        bare.stdin.flush()
        tokens, took = json.loads(bare.stdout.readline())
        started = time.perf_counter()
        answer = web.post("/v1/completions", json=request, headers=headers)
        spent = time.perf_counter() - started
        served = answer.json()["usage"]["completion_tokens"]
        assert tokens == served, f"{tokens} tokens of the library, {served} of the server"
        if number:
            rates["bare"].append(tokens / took)
            rates["server"].append(served / spent)
    return rates


if __name__ == "__main__":
    sys.exit(main())
