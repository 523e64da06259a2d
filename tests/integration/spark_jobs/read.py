"""Read a table; who is refused says so, and asks again for a minute.

spark-submit read.py TABLE
"""

import sys
import time

from pyspark.sql import SparkSession


def main():
    spark = SparkSession.builder.appName("read").enableHiveSupport().getOrCreate()
    for _attempt in range(30):
        try:
            print("rows", len(spark.table(sys.argv[1]).collect()), flush=True)
            return
        except Exception as error:
            print("refused:", str(error)[:2000], flush=True)
            spark.catalog.clearCache()
            time.sleep(2)


if __name__ == "__main__":
    main()
