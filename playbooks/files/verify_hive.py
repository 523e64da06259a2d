#!/usr/bin/env python3
"""Make a table through HiveServer2 as the calling user, query it and check the results.

Puts rows into HDFS, loads them, counts, joins and filters them by SQL and again in Python, and
compares; then sees that callers without a ticket, and without TLS, are refused for that, and at the
metastore who has no more than a name. Needs a Kerberos ticket in KRB5CCNAME. Prints what it did as
JSON, leaves nothing behind, and exits with 1 and the reason when anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import time

METASTORE = 9083
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


def see_refused(what, reason, words, **environment):
    """See that beeline does not get in, and for which reason."""
    done = subprocess.run(
        ["beeline", *words, *BEELINE, "-e", "SELECT 1;"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    said = done.stdout + done.stderr
    if done.returncode == 0 or reason not in said:
        sys.exit(f"HiveServer2 did not refuse a caller {what} for that:\n{said[-3000:]}")


def see_no_name_is_enough(host):
    """See that the metastore takes nobody at his word, as SASL's PLAIN would."""
    said = b""
    with socket.create_connection((host, METASTORE), timeout=30) as connection:
        connection.sendall(struct.pack(">bI", 1, len(b"PLAIN")) + b"PLAIN")
        with contextlib.suppress(TimeoutError, ConnectionError):
            while part := connection.recv(4096):
                said += part
    if b"Unsupported mechanism type PLAIN" not in said:
        sys.exit(f"the metastore did not refuse a caller without a ticket for that: {said[:500]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", required=True, help="HDFS directory to work in")
    parser.add_argument("--plain-url", required=True, help="HiveServer2's address without TLS")
    parser.add_argument("--metastore", required=True, help="the metastore's host")
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
    see_refused("without a ticket", "GSS initiate failed", [], KRB5CCNAME="FILE:/nonexistent")
    # What TLS's answer looks like to who does not speak it.
    see_refused("without TLS", "Invalid status 21", ["-u", args.plain_url])
    see_no_name_is_enough(args.metastore)
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"rows": len(rows), "joined": len(pairs), "seconds": seconds}))


if __name__ == "__main__":
    main()
