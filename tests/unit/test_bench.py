"""The benchmark of converges: what it calls memory, and that a limit exceeded is a failure."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(path):
    spec = importlib.util.spec_from_file_location("deitos_bench_converge", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


converge = load(ROOT / "bench/converge.py")


def test_a_limit_exceeded_is_a_failure():
    cold, again, memory = (limit for limit, _unit in converge.LIMITS.values())
    assert (cold, again, memory) == (660, 75, 8192)
    lines, exceeded = converge.report(20.0, cold, again, memory)
    assert not exceeded
    assert sum(line.endswith("kept") for line in lines) == 3
    for worse in ((cold + 1, again, memory), (cold, again + 1, memory), (cold, again, memory + 1)):
        lines, exceeded = converge.report(20.0, *worse)
        assert exceeded
        assert sum(line.endswith("EXCEEDED") for line in lines) == 1


@pytest.mark.parametrize(
    "statistics",
    [
        "cache 999\nrss 7\nmapped_file 7\ntotal_cache 99999999\ntotal_rss 3145728\n"
        "total_mapped_file 1048576\n",
        "anon 3145728\nfile 99999999\nfile_mapped 1048576\nkernel 4096\n",
    ],
)
def test_memory_is_what_processes_hold(statistics):
    assert converge.held(statistics) == 4


def test_what_counts_nothing_is_an_error():
    with pytest.raises(ValueError, match="not enough values"):
        converge.held("cache 999\n")


def test_every_benchmark_is_run_by_make():
    run = {*re.findall(r"bench/\w+\.py", (ROOT / "Makefile").read_text()), *converge.BENCHES}
    assert run == {f"bench/{path.name}" for path in (ROOT / "bench").glob("*.py")}
