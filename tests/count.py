#!/usr/bin/env python3
"""Add up the junit results in a directory, and print them as one line."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree


def main() -> int:
    passed = failed = skipped = 0
    for path in Path(sys.argv[1]).glob("*.xml"):
        for suite in ElementTree.parse(path).iter("testsuite"):
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            left = int(suite.get("skipped", 0))
            passed += int(suite.get("tests", 0)) - bad - left
            failed += bad
            skipped += left
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
