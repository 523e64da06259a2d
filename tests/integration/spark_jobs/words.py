"""Count the words of a text on HDFS; write the counts, and who counted with what, as JSON.
Then run statements of SQL, which see the counts as view `found`.

spark-submit words.py INPUT OUTPUT [STATEMENT...]
"""

import json
import os
import pwd
import sys
from operator import add

from pyspark.sql import SparkSession


def here(_number):
    """Who runs this, with which Python; and what its environment has brought along."""
    try:
        import deitos_words
    except ImportError:
        brought = None
    else:
        brought = deitos_words.ANSWER
    return pwd.getpwuid(os.getuid()).pw_name, sys.executable, brought


def main():
    source, target, *statements = sys.argv[1:]
    spark = SparkSession.builder.appName("words").getOrCreate()
    context = spark.sparkContext
    words = context.textFile(source, 4).flatMap(str.split)
    found = {
        "counts": words.map(lambda word: (word, 1)).reduceByKey(add, 2).collectAsMap(),
        "driver": here(0),
        "executors": sorted(set(context.parallelize(range(4), 4).map(here).collect()), key=str),
    }
    if statements:
        rows = list(found["counts"].items())
        spark.createDataFrame(rows, ["word", "n"]).createOrReplaceTempView("found")
    for statement in statements:
        spark.sql(statement)
    context.parallelize([json.dumps(found)], 1).saveAsTextFile(target)


if __name__ == "__main__":
    main()
