#!/usr/bin/env python3
"""Ask the model server for a completion with a key, and see that nobody gets one without.

Runs as root on the server's host, where it makes a key of its own and revokes it. Prints what it
did as JSON, leaves no key behind, and exits with 1 and the reason when anything is otherwise.
"""

from __future__ import annotations

import argparse
import json
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

QUESTION = {"prompt": "You may", "max_tokens": 8}


def run(*command):
    """Run a command; its output, or an error that shows what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


class Caller:
    """Somebody with or without a key, through no proxy that the environment may name."""

    def __init__(self, url, authority, wait):
        trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=authority))
        self.web = urllib.request.build_opener(urllib.request.ProxyHandler({}), trust)
        self.url, self.wait = f"{url}/v1/completions", wait

    def ask(self, key=None):
        """The status, and the answer."""
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url, json.dumps(QUESTION).encode(), headers)  # noqa: S310 https
        try:
            with self.web.open(request, timeout=self.wait) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def see_refused(self, what, key=None):
        """See that nothing is answered for want of a key."""
        status, answer = self.ask(key)
        if (status, answer["error"]["code"]) != (401, "invalid_api_key"):
            sys.exit(f"who asked {what} was not refused for that: HTTP {status} {answer}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="the server's address")
    parser.add_argument("--ca", required=True, help="the cluster's authority")
    parser.add_argument("--keys", required=True, help="the program that makes and revokes keys")
    parser.add_argument("--wait", type=int, default=300, help="seconds for each request")
    args = parser.parse_args()

    caller = Caller(args.url, args.ca, args.wait)
    name = f"verify-{time.time_ns()}"
    started = time.monotonic()
    key = run(args.keys, "add", name).strip()
    try:
        status, answer = caller.ask(key)
    finally:
        run(args.keys, "revoke", name)
    if status != 200 or answer["choices"][0]["finish_reason"] not in ("length", "stop"):
        sys.exit(f"there is no completion: HTTP {status} {answer}")
    caller.see_refused("without a key")
    caller.see_refused("with a revoked key", key)
    tokens = answer["usage"]["completion_tokens"]
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"model": answer["model"], "tokens": tokens, "seconds": seconds}))


if __name__ == "__main__":
    main()
