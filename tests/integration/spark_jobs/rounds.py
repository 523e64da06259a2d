"""Work on HDFS again and again: each round, an executor and the driver write, and read it back.

spark-submit rounds.py OUTPUT SECONDS
"""

import sys
import time

from pyspark.sql import SparkSession


def main():
    target, seconds = sys.argv[1], int(sys.argv[2])
    context = SparkSession.builder.appName("rounds").getOrCreate().sparkContext
    end, number = time.time() + seconds, 0
    while time.time() < end:
        path = f"{target}/round-{number}"
        context.parallelize([number], 1).saveAsTextFile(path)
        assert context.textFile(path).collect() == [str(number)]
        number += 1
        time.sleep(15)
    context.parallelize([number], 1).saveAsTextFile(f"{target}/rounds")


if __name__ == "__main__":
    main()
