#!/usr/bin/env python3
"""Run a real wordcount on the cluster as the calling user and check its result.

Makes a text, puts it into HDFS, reads it back by WebHDFS, sees that without a ticket nobody does,
counts its words with MapReduce on YARN, counts them again in Python and compares. Needs a Kerberos
ticket in KRB5CCNAME. Prints what it did as JSON, leaves nothing behind in HDFS, and exits with 1
and the reason when anything differs.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

TICKET = ("--negotiate", "-u", ":")


def run(*command, stdin=None):
    """Run a command; its output, or an error that shows what it said."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout, done.stderr


def fetch(url, authority, *proof):
    """The status, and what a file of HDFS holds: a DataNode hands it out."""
    words = ["-sS", "-L", "--noproxy", "*", "--cacert", authority, *proof]
    said, _err = run("curl", *words, "-w", "\\n%{http_code}", url)
    text, _, status = said.rpartition("\n")
    return int(status), text


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hadoop-home", type=Path, default=Path("/opt/hadoop"))
    parser.add_argument("--directory", required=True, help="HDFS directory to work in")
    parser.add_argument("--webhdfs", required=True, help="the NameNode's address")
    parser.add_argument("--ca", required=True, help="the cluster's authority")
    parser.add_argument("--words", type=int, default=20000)
    args = parser.parse_args()
    examples = args.hadoop_home.glob("share/hadoop/mapreduce/hadoop-mapreduce-examples-*.jar")

    vocabulary = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    words = random.choices(vocabulary, range(1, 9), k=args.words)  # noqa: S311 a text, no secret
    text = "\n".join(" ".join(words[i : i + 12]) for i in range(0, len(words), 12)) + "\n"
    work = f"{args.directory}/verify-{time.time_ns()}"
    started = time.monotonic()
    run("hdfs", "dfs", "-mkdir", "-p", work)
    try:
        run("hdfs", "dfs", "-put", "-", f"{work}/in.txt", stdin=text)
        url = f"{args.webhdfs}/webhdfs/v1{work}/in.txt?op=OPEN"
        status, said = fetch(url, args.ca, *TICKET)
        if (status, said) != (200, text):
            sys.exit(f"WebHDFS does not give back what was put: HTTP {status} {said[:500]}")
        status, said = fetch(url, args.ca)
        if status != 401:
            sys.exit(f"WebHDFS asks for no ticket: HTTP {status} {said[:500]}")
        _out, progress = run(
            "hadoop", "jar", str(next(examples)), "wordcount", f"{work}/in.txt", f"{work}/out"
        )
        counted, _err = run("hdfs", "dfs", "-cat", f"{work}/out/part-*")
    finally:
        run("hdfs", "dfs", "-rm", "-r", "-skipTrash", work)
    found = {w: int(n) for w, n in (line.split("\t") for line in counted.splitlines())}
    if found != Counter(words):
        sys.exit(f"wordcount differs: expected {dict(Counter(words))}, found {found}")
    application = re.search(r"application_\d+_\d+", progress)
    print(
        json.dumps(
            {
                "application": application.group() if application else None,
                "words": len(words),
                "distinct": len(found),
                "seconds": round(time.monotonic() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
