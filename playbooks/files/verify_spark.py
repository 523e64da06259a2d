#!/usr/bin/env python3
"""Count words with Spark on the cluster as the calling user and check the result.

Makes a text, puts it into HDFS and has Spark on YARN count its words twice at once: with the driver
in the cluster, and with the driver here, through a table where there is a metastore; beside them
SparkPi, a program in Scala that the release's own compiler compiles, works out pi. Counts again
without Spark and compares. Then sees that the history server shows the runs to their owner, and to
nobody without a ticket. Needs a Kerberos ticket in KRB5CCNAME. Prints what it did as JSON, leaves
nothing behind in HDFS but the applications' logs, and exits with 1 and the reason when anything
differs.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# The table does not go into the caller's trash.
JOB = """
import sys
from operator import add
from pyspark.sql import SparkSession

source, target, *tables = sys.argv[1:]
spark = SparkSession.builder.appName("verify").getOrCreate()
words = spark.sparkContext.textFile(source, 2).flatMap(str.split)
counts = words.map(lambda w: (w, 1)).reduceByKey(add, 2)
for table in tables:
    spark.createDataFrame(counts, "word STRING, n INT").createOrReplaceTempView("counts")
    try:
        spark.sql(f"CREATE TABLE {table} AS SELECT * FROM counts")
        counts = spark.sparkContext.parallelize(spark.sql(f"SELECT word, n FROM {table}").collect())
    finally:
        spark.sql(f"DROP TABLE IF EXISTS {table} PURGE")
counts.map(lambda found: "%s\\t%d" % tuple(found)).saveAsTextFile(target)
"""
SPARK_PI = """
import org.apache.spark.sql.SparkSession

object SparkPi {
  def main(arguments: Array[String]): Unit = {
    val spark = SparkSession.builder().appName("SparkPi").getOrCreate()
    val points = 100000L * arguments(0).toInt
    val inside = spark.sparkContext.range(0, points).filter { _ =>
      val x = math.random() * 2 - 1
      val y = math.random() * 2 - 1
      x * x + y * y <= 1
    }.count()
    println(s"Pi is roughly ${4.0 * inside / points}")
    spark.stop()
  }
}
"""
TICKET = ("--negotiate", "-u", ":")
# What each of these jobs may take of the cluster.
SMALL = ("--conf", "spark.dynamicAllocation.maxExecutors=1")


def run(*command, stdin=None):
    """Run a command; its output, or an error that shows what it said."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout, done.stderr


def submit(mode, *words):
    """Submit a job and wait for its end; its application, and what a driver here printed."""
    out, progress = run("spark-submit", "--deploy-mode", mode, *SMALL, *map(str, words))
    application = re.search(r"application_\d+_\d+", progress)
    if not application:
        sys.exit(f"spark-submit tells of no application:\n{progress[-3000:]}")
    return application.group(), out


def work_out_pi(spark_home, directory):
    """Compile SparkPi and submit it with the driver here."""
    source, program = directory / "SparkPi.scala", directory / "pi.jar"
    source.write_text(SPARK_PI)
    compiler = (str(spark_home / "bin/spark-class"), "scala.tools.nsc.Main", "-usejavacp")
    run(*compiler, "-d", str(program), str(source))
    return submit("client", "--class", "SparkPi", program, 2)


def counted(place):
    """The counts that a job has written."""
    found, _err = run("hdfs", "dfs", "-cat", f"{place}/part-*")
    return {w: int(n) for w, n in (line.split("\t") for line in found.splitlines())}


def fetch(url, authority, *proof):
    """The status, and what was said."""
    words = ["-sS", "--noproxy", "*", "--cacert", authority, *proof]
    said, _err = run("curl", *words, "-w", "\\n%{http_code}", url)
    text, _, status = said.rpartition("\n")
    return int(status), text


def see_history(url, authority, user):
    """See that a run is shown to its owner, and to nobody without a ticket."""
    status, said = fetch(url, authority, *TICKET)
    # The history server looks for new runs every few seconds.
    deadline = time.monotonic() + 60
    while status == 404 and time.monotonic() < deadline:
        time.sleep(1)
        status, said = fetch(url, authority, *TICKET)
    if status != 200 or json.loads(said)["attempts"][0]["sparkUser"] != user:
        sys.exit(f"the history server does not show {url}: HTTP {status} {said[:500]}")
    status, said = fetch(url, authority)
    if status != 401:
        sys.exit(f"the history server asks for no ticket: HTTP {status} {said[:500]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spark-home", type=Path, default=Path("/opt/spark"))
    parser.add_argument("--directory", required=True, help="HDFS directory to work in")
    parser.add_argument("--history", required=True, help="the history server's address")
    parser.add_argument("--user", required=True, help="the caller's name")
    parser.add_argument("--ca", required=True, help="the cluster's authority")
    parser.add_argument("--tables", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--words", type=int, default=20000)
    args = parser.parse_args()

    vocabulary = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    words = random.choices(vocabulary, range(1, 9), k=args.words)  # noqa: S311 a text, no secret
    text = "\n".join(" ".join(words[i : i + 12]) for i in range(0, len(words), 12)) + "\n"
    name = f"verify_spark_{time.time_ns()}"
    work = f"{args.directory}/{name}"
    started = time.monotonic()
    run("hdfs", "dfs", "-mkdir", "-p", work)
    try:
        run("hdfs", "dfs", "-put", "-", f"{work}/in.txt", stdin=text)
        with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor() as pool:
            job = Path(scratch) / "verify_words.py"
            job.write_text(JOB)
            tables = {"cluster": [], "client": [name] if args.tables else []}
            jobs = {
                mode: pool.submit(submit, mode, job, f"{work}/in.txt", f"{work}/{mode}", *names)
                for mode, names in tables.items()
            }
            jobs["pi"] = pool.submit(work_out_pi, args.spark_home, Path(scratch))
            applications = {mode: job.result()[0] for mode, job in jobs.items()}
            said = jobs["pi"].result()[1]
        found = {mode: counted(f"{work}/{mode}") for mode in tables}
    finally:
        run("hdfs", "dfs", "-rm", "-r", "-skipTrash", work)
    for mode, counts in found.items():
        if counts != Counter(words):
            sys.exit(f"the counts in {mode} mode differ: {counts}, not {dict(Counter(words))}")
    pi = re.search(r"Pi is roughly ([\d.]+)", said)
    if not pi or abs(float(pi.group(1)) - math.pi) > 0.1:
        sys.exit(f"pi is not {math.pi}: {said[-500:]}")
    for application in applications.values():
        url = f"{args.history}/api/v1/applications/{application}"
        see_history(url, args.ca, args.user)
    print(
        json.dumps(
            {
                "applications": applications,
                "words": len(words),
                "distinct": len(found["cluster"]),
                "pi": float(pi.group(1)),
                "seconds": round(time.monotonic() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
