"""What a test's HDFS without a connection has of the real one's behaviour."""

from __future__ import annotations

from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem


class InMemory:
    """Paths are the test's; one that raises a Problem hides no other."""

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        return

    def map(self, function, items):
        def guarded(item):
            try:
                return function(item)
            except Problem as problem:
                return problem

        return [guarded(item) for item in items]
