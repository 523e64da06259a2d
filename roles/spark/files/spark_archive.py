#!/usr/bin/python3
"""Make the archive of jars that Spark's containers run on.

    spark_archive.py OUTPUT.zip spark [hive]

reads spark.tar.gz and hive.tar.gz in the current directory, the releases as Apache packs them:
Spark's jars go to the top, Hive's lib to hive/. Nothing is compressed, as jars are already, and
the same releases make the same bytes. The archive has its name only once it is whole.
"""

import os
import re
import shutil
import sys
import tarfile
import zipfile

# Where a release keeps its jars, and where they go.
JARS = {
    "spark": (re.compile(r"[^/]+/jars/([^/]+\.jar)"), "{}"),
    "hive": (re.compile(r"[^/]+/lib/([^/]+\.jar)"), "hive/{}"),
}


def add(archive, release):
    """Copy the jars of one release."""
    pattern, place = JARS[release]
    found = 0
    with tarfile.open(f"{release}.tar.gz") as source:
        for member in source:
            jar = pattern.fullmatch(member.name.removeprefix("./"))
            if jar and member.isfile():
                entry = zipfile.ZipInfo(place.format(jar[1]))
                entry.external_attr = 0o644 << 16
                entry.file_size = member.size
                with source.extractfile(member) as content, archive.open(entry, "w") as target:
                    shutil.copyfileobj(content, target, 1 << 20)
                found += 1
    if not found:
        sys.exit(f"{release}.tar.gz holds no jars where Apache's release has them")


def main():
    output, *releases = sys.argv[1:]
    with zipfile.ZipFile(f"{output}.new", "w", zipfile.ZIP_STORED) as archive:
        for release in releases:
            add(archive, release)
    os.replace(f"{output}.new", output)


if __name__ == "__main__":
    main()
