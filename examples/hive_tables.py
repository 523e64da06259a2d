#!/usr/bin/env python3
"""Tables of Hive in Spark: make one, load a text into it, ask it, join it with data of one's own.

    spark-submit hive_tables.py kv1.txt [database]

kv1.txt holds lines of a number, Ctrl-A and a text. The answers are printed as JSON, a line each.
With --deploy-mode cluster, say --files kv1.txt as well: the driver then runs elsewhere.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pyspark.sql import Row, SparkSession


def show(name, value):
    """One answer, as a line of JSON."""
    print(json.dumps({name: value}), flush=True)


def main():
    source = Path(sys.argv[1]).resolve()
    database = sys.argv[2] if len(sys.argv) > 2 else "default"
    spark = SparkSession.builder.appName("Tables of Hive").enableHiveSupport().getOrCreate()
    spark.sql(f"CREATE DATABASE IF NOT EXISTS {database}")
    spark.sql(f"USE {database}")

    spark.sql("CREATE TABLE IF NOT EXISTS src (key INT, value STRING)")
    spark.sql(f"LOAD DATA LOCAL INPATH '{source}' OVERWRITE INTO TABLE src")

    # Queries are in HiveQL, and their results are data frames.
    show("rows", len(spark.sql("SELECT * FROM src").collect()))
    show("count", spark.sql("SELECT COUNT(*) FROM src").first()[0])

    # The rows of a data frame are objects, whose columns have names.
    few = spark.sql("SELECT key, value FROM src WHERE key < 10 ORDER BY key")
    texts = few.rdd.map(lambda row: f"Key: {row.key}, Value: {row.value}")
    show("few", texts.collect())

    # A data frame of one's own becomes a view for the length of the session, and joins with tables.
    records = spark.createDataFrame([Row(key=i, value=f"val_{i}") for i in range(1, 101)])
    records.createOrReplaceTempView("records")
    joined = spark.sql(
        "SELECT r.key, r.value, s.value FROM records r JOIN src s ON r.key = s.key"
        " ORDER BY r.key, s.value"
    )
    show("joined", [list(row) for row in joined.collect()])
    spark.stop()


if __name__ == "__main__":
    main()
