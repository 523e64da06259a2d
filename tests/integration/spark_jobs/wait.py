"""Keep an executor busy until somebody ends it."""

import time

from pyspark.sql import SparkSession

context = SparkSession.builder.appName("wait").getOrCreate().sparkContext
context.parallelize([1], 1).map(lambda _number: print("working") or time.sleep(600)).collect()
