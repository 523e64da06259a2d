#!/usr/bin/env python3
"""Time from spark-submit to the first task: the jars on HDFS, against shipping them each time.

Runs on the lab named by LAB, which must be converged, as test_user with the driver in the cluster.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))

from labhosts import Cluster, account  # noqa: E402

ROUNDS = 2
PLACE = "/tmp/bench-spark"  # noqa: S108 a directory on a machine of the lab
# The driver tells when its first task ran, by the clock that all machines of the lab share.
JOB = """\
import sys, time
from pyspark.sql import SparkSession
context = SparkSession.builder.appName("bench").getOrCreate().sparkContext
first = context.parallelize([1], 1).map(lambda _number: time.time()).first()
context.parallelize([repr(first)], 1).saveAsTextFile(sys.argv[1])
"""


def first_task(user, number, options):
    """Seconds from the submit to the first task."""
    target = f"{PLACE}/{number}"
    user.ok(f"hdfs dfs -rm -r -f -skipTrash {target}")
    started = float(user.ok("date +%s.%N"))
    user.ok(f"{options} spark-submit --deploy-mode cluster {PLACE}/job.py {target}")
    return float(user.ok(f"hdfs dfs -cat {target}/part-*")) - started


def main():
    cluster = Cluster()
    user = account(cluster, "test_user")
    user.ok(f"mkdir -p {PLACE}/conf && cat > {PLACE}/job.py", stdin=JOB)
    defaults = user.ok("cat /etc/spark/spark-defaults.conf")
    shipping = re.sub(r"^spark\.yarn\.archive=.*$", "", defaults, flags=re.M)
    if shipping == defaults:
        sys.exit("this cluster does not name an archive")
    user.ok(f"cp /etc/spark/* {PLACE}/conf/ 2>/dev/null; true")
    user.ok(f"cat > {PLACE}/conf/spark-defaults.conf", stdin=shipping)
    ways = {"jars on HDFS": "", "jars shipped": f"SPARK_CONF_DIR={PLACE}/conf"}
    seconds = {name: [] for name in ways}
    try:
        # The workers keep the archive from their first job on.
        first_task(user, "warm", "")
        for number in range(ROUNDS):
            for name, options in ways.items():
                seconds[name].append(first_task(user, f"{number}", options))
    finally:
        user.run(f"hdfs dfs -rm -r -f -skipTrash {PLACE}; rm -rf {PLACE}")
    print(f"from spark-submit to the first task, median of {ROUNDS}, at {time.strftime('%H:%M')}:")
    for name, found in seconds.items():
        print(f"  {name}  {statistics.median(found):6.1f} s")
    on_hdfs, shipped = (statistics.median(found) for found in seconds.values())
    print(f"  ratio         {shipped / on_hdfs:6.1f}")


if __name__ == "__main__":
    main()
