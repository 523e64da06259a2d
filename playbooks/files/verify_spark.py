#!/usr/bin/env python3
"""Count words with Spark on the cluster as the calling user and check the result.

Makes a text, puts it into HDFS, counts its words in Python on YARN with the driver in the cluster,
counts them again without Spark and compares. Needs a Kerberos ticket in KRB5CCNAME. Prints what it
did as JSON, leaves nothing behind in HDFS but the application's log, and exits with 1 and the
reason when anything differs.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

JOB = """
import sys
from operator import add
from pyspark.sql import SparkSession

source, target = sys.argv[1:]
context = SparkSession.builder.appName("verify").getOrCreate().sparkContext
counts = context.textFile(source, 2).flatMap(str.split).map(lambda w: (w, 1)).reduceByKey(add, 2)
counts.map(lambda found: "%s\\t%d" % found).saveAsTextFile(target)
"""


def run(*command, stdin=None):
    """Run a command; its output, or an error that shows what it said."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout, done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", required=True, help="HDFS directory to work in")
    parser.add_argument("--words", type=int, default=20000)
    args = parser.parse_args()

    vocabulary = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    words = random.choices(vocabulary, range(1, 9), k=args.words)  # noqa: S311 a text, no secret
    text = "\n".join(" ".join(words[i : i + 12]) for i in range(0, len(words), 12)) + "\n"
    work = f"{args.directory}/verify-spark-{time.time_ns()}"
    started = time.monotonic()
    run("hdfs", "dfs", "-mkdir", "-p", work)
    try:
        run("hdfs", "dfs", "-put", "-", f"{work}/in.txt", stdin=text)
        with tempfile.TemporaryDirectory() as scratch:
            job = Path(scratch) / "verify_words.py"
            job.write_text(JOB)
            _out, progress = run(
                "spark-submit",
                *("--deploy-mode", "cluster", str(job), f"{work}/in.txt", f"{work}/out"),
            )
        counted, _err = run("hdfs", "dfs", "-cat", f"{work}/out/part-*")
    finally:
        run("hdfs", "dfs", "-rm", "-r", "-skipTrash", work)
    found = {w: int(n) for w, n in (line.split("\t") for line in counted.splitlines())}
    if found != Counter(words):
        sys.exit(f"the counts differ: expected {dict(Counter(words))}, found {found}")
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
