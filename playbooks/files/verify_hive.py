#!/usr/bin/env python3
"""Make a table through HiveServer2 as the calling user, query it and check the results.

Puts rows into HDFS, loads them, counts, joins and filters them by SQL and again in Python, and
compares; then sees that a caller without a ticket, and one without TLS, are refused. Needs a
Kerberos ticket in KRB5CCNAME. Prints what it did as JSON, leaves nothing behind, and exits with 1
and the reason when anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time

BEELINE = ["--silent=true", "--showHeader=false", "--outputformat=tsv2"]


def run(*command, stdin=None):
    """Run a command; its output, or an error that shows what it said."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def beeline(*statements):
    """The rows that statements give, of numbers alone."""
    out = run("beeline", *BEELINE, "-e", "; ".join(statements) + ";")
    return [[int(value) for value in line.split("\t")] for line in out.splitlines() if line.strip()]


def refused(what, words, **environment):
    """See that beeline does not get in."""
    done = subprocess.run(
        ["beeline", *words, *BEELINE, "-e", "SELECT 1;"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    if done.returncode == 0:
        sys.exit(f"HiveServer2 let in a caller {what}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", required=True, help="HDFS directory to work in")
    parser.add_argument("--plain-url", required=True, help="HiveServer2's address without TLS")
    parser.add_argument("--rows", type=int, default=500)
    args = parser.parse_args()

    rows = [(key, random.randrange(100)) for key in range(args.rows)]  # noqa: S311 no secret
    table = f"verify_{time.time_ns()}"
    file = f"{args.directory}/{table}.csv"
    started = time.monotonic()
    run("hdfs", "dfs", "-put", "-", file, stdin="".join(f"{key},{n}\n" for key, n in rows))
    try:
        found = beeline(
            f"CREATE TABLE {table} (key INT, n INT) ROW FORMAT DELIMITED FIELDS TERMINATED BY ','",
            f"LOAD DATA INPATH '{file}' INTO TABLE {table}",
            f"SELECT key, n FROM {table} WHERE key < 10 ORDER BY key",  # noqa: S608 made above
            f"SELECT COUNT(*), SUM(a.n * b.n) FROM {table} a JOIN {table} b ON a.n = b.key",  # noqa: S608
        )
    finally:
        run("beeline", *BEELINE, "-e", f"DROP TABLE IF EXISTS {table} PURGE;")
        run("hdfs", "dfs", "-rm", "-f", "-skipTrash", file)
    values = dict(rows)
    pairs = [n * values[n] for _key, n in rows if n in values]
    expected = [*(list(row) for row in rows[:10]), [len(pairs), sum(pairs)]]
    if found != expected:
        sys.exit(f"HiveServer2's answers differ: expected {expected}, found {found}")
    refused("without a ticket", [], KRB5CCNAME="FILE:/nonexistent")
    refused("without TLS", ["-u", args.plain_url])
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"rows": len(rows), "joined": len(pairs), "seconds": seconds}))


if __name__ == "__main__":
    main()
