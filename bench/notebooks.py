#!/usr/bin/env python3
"""Time from a login to a cell's first result, and a kernel's start on YARN against a local one.

Runs on the lab named by LAB, as test_user: `make bench` makes one for it.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))

from labhosts import Cluster, account  # noqa: E402
from notebooks import at_hub  # noqa: E402

ROUNDS = 2
PERSON = "test_user"
KERNELS = {"on YARN": "pyspark", "local": "pyspark-local"}
# Spark's first work; the executors are on YARN in both.
CELL = "spark.range(1000).count()"


def logged_in(hub, user):
    """Somebody who has just logged in, with no server yet."""
    person = hub.visitor(PERSON)
    answer = person.negotiate(user, "--delegation", "always")
    assert answer.status == 302, answer
    return person


def first_result(person, kernel):
    """Seconds until a kernel answers, and until a cell has its result."""
    started = time.monotonic()
    with person.kernel(kernel, "bench.ipynb") as ready:
        answers = time.monotonic() - started
        assert ready.ok(CELL) == "1000"
        return answers, time.monotonic() - started


def main():
    cluster = Cluster()
    if not cluster.inventory.get("jupyter", {}).get("hosts"):
        sys.exit("this lab has no host of notebooks")
    user = account(cluster, PERSON)
    with at_hub(cluster) as hub:
        logged_in(hub, user).stop()
        # The workers keep Spark and the environment of kernels from their first kernel on.
        person = logged_in(hub, user).spawn()
        first_result(person, KERNELS["on YARN"])
        person.stop()
        logins, starts = [], {name: [] for name in KERNELS}
        try:
            for _round in range(ROUNDS):
                began = time.monotonic()
                person = logged_in(hub, user).spawn()
                spawned = time.monotonic() - began
                starts["on YARN"].append(first_result(person, KERNELS["on YARN"]))
                logins.append(spawned + starts["on YARN"][-1][1])
                starts["local"].append(first_result(person, KERNELS["local"]))
                person.stop()
        finally:
            person.stop()
    print(f"from a login to the first result of a cell on YARN: {statistics.median(logins):.1f} s")
    print(f"kernels, median of {ROUNDS}, at {time.strftime('%H:%M')}:    answers   first result")
    medians = {
        name: [statistics.median(seconds) for seconds in zip(*found)]
        for name, found in starts.items()
    }
    for name, (answers, result) in medians.items():
        print(f"  {name:8}                            {answers:6.1f} s       {result:6.1f} s")
    ratio = medians["on YARN"][1] / medians["local"][1]
    print(f"  ratio of the first results                          {ratio:6.2f}")


if __name__ == "__main__":
    main()
