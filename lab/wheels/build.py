#!/usr/bin/python3
"""Compile what PyPI has as source alone, once, and pack it with what it needs for hosts.

Hosts get one archive: the packages of llama-cpp-python's server for Debian's own Python, by URL and
checksum. They need no compiler, no pip and no network.

    llama/source.lock    the package to compile, by digest
    llama/build.lock     what compiles it, besides the compiler: CMake and Ninja
    llama/runtime.lock   the wheels that it runs with
    llama/pin.json       digest of the finished archive, and the compiler it was made with
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECIPE = HERE / "llama"
LAB_VARIABLES = HERE.parent.parent / "inventories/lab/group_vars/all/llama.yml"
# Debian 12's: what is compiled, and the wheels beside it, are for this one.
PYTHON = "/usr/bin/python3"
PYTHON_VERSION = "3.11"
# Of every file in the archive.
MTIME = 1735689600
# For any x86-64 of the last ten years (AVX2, FMA, F16C), whichever compiles. llama.cpp's own
# threads in place of OpenMP: hosts need no libgomp.
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DLLAVA_BUILD=OFF",
    "-DGGML_NATIVE=OFF",
    "-DGGML_OPENMP=OFF",
    "-DGGML_CCACHE=OFF",
)
TARGET = "llama"


def load_releases():
    """The builder of releases, whose archives, cache and manners are the same."""
    file = HERE.parent / "releases/build.py"
    spec = importlib.util.spec_from_file_location("deitos_releases", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


releases = load_releases()
BuildError, say = releases.BuildError, releases.say


def locked(name: str) -> dict[str, str]:
    """{name==version: SHA-256} of a lock."""
    lines = (RECIPE / f"{name}.lock").read_text().splitlines()
    found = {}
    for line in filter(None, (line.partition("#")[0].strip() for line in lines)):
        package, _, digest = line.partition(" --hash=sha256:")
        found[package] = digest
    return found


def compiler() -> str:
    """What compiles, as it calls itself."""
    if not shutil.which("g++"):
        raise BuildError("there is no C++ compiler: apt-get install g++")
    out = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout
    return out.splitlines()[0]


def recipe() -> str:
    """Digest of all that decides the archive's bytes, apart from the compiler."""
    parts = [json.dumps([locked(name) for name in ("source", "build", "runtime")]), str(MTIME)]
    return hashlib.sha256("\n".join([*parts, *OPTIONS, TARGET]).encode()).hexdigest()


def run(*words: str, environment: dict[str, str], what: str) -> None:
    done = subprocess.run(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise BuildError(f"{what}:\n{tail}")


class Builder:
    """One build, in a directory of its own."""

    def __init__(self, work: Path, store: Path, jobs: int) -> None:
        self.work = work
        self.store = store
        self.venv = work / "venv"
        self.environment = {
            **os.environ,
            "PATH": f"{self.venv}/bin:{os.environ['PATH']}",
            "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs),
            "SOURCE_DATE_EPOCH": str(MTIME),
            "TMPDIR": str(work),
        }
        if Path(releases.AUTHORITIES).exists():
            self.environment.setdefault("PIP_CERT", releases.AUTHORITIES)

    def pip(self, command: str, *words: str, what: str) -> None:
        python = str(self.venv / "bin/python")
        options = ("--disable-pip-version-check", "--no-cache-dir")
        run(python, "-m", "pip", command, *options, *words, environment=self.environment, what=what)

    def fetch(self, name: str) -> list[Path]:
        """The files of a lock, from the cache or else from the index of Python packages."""
        wanted = locked(name)
        missing = [d for d in wanted.values() if not (self.store / d[:2] / d).exists()]
        target = self.work / name
        if missing:
            say(f"llama: fetching {len(wanted)} packages of {name}.lock")
            # As for releases: metadata is read, no code of the package's is run for it.
            backend = self.work / "backend/scikit_build_core"
            backend.mkdir(parents=True, exist_ok=True)
            (backend / "__init__.py").touch()
            (backend / "build.py").write_text(releases.BACKEND)
            self.environment["PYTHONPATH"] = str(backend.parent)
            kind = ("--no-binary", ":all:", "--no-build-isolation")
            self.pip(
                "download",
                *("--no-deps", "--require-hashes", "--requirement", str(RECIPE / f"{name}.lock")),
                *(kind if name == "source" else ("--only-binary", ":all:")),
                *("--dest", str(target)),
                what=f"the packages of {name}.lock could not be fetched",
            )
            for file in target.iterdir():
                digest = releases.sha256_of(file)
                kept = self.store / digest[:2] / digest
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, kept.with_suffix(".new"))
                kept.with_suffix(".new").replace(kept)
        found = []
        for package, digest in wanted.items():
            file = self.store / digest[:2] / digest
            if releases.sha256_of(file) != digest:
                file.unlink()
                raise BuildError(f"{package} was damaged in {self.store} and is removed: run again")
            found.append(file)
        return found

    def prepare(self) -> None:
        """A virtual environment with what compiles."""
        run(PYTHON, "-m", "venv", str(self.venv), environment=self.environment,
            what="no virtual environment can be made: apt-get install python3-venv")  # fmt: skip
        lock = str(RECIPE / "build.lock")
        self.pip(
            "install",
            *("--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", lock),
            what="the packages of build.lock could not be installed",
        )

    def compile(self) -> dict[str, tuple[bytes, bool]]:
        """The files of the package that PyPI has as source alone, with its libraries."""
        (source,) = self.fetch("source")
        (name,) = locked("source")
        unpacked = self.work / "source-tree"
        unpacked.mkdir()
        words = ("tar", "--extract", "--gzip", "--no-same-owner", "--file", str(source))
        what = f"{name} could not be unpacked"
        run(*words, "--directory", str(unpacked), environment=self.environment, what=what)
        (tree,) = unpacked.iterdir()
        compiled = self.work / "compiled"
        # No path of this machine gets into the result.
        flags = f"-ffile-prefix-map={tree}=. -ffile-prefix-map={self.work}=."
        self.environment |= {"CFLAGS": flags, "CXXFLAGS": flags}
        cmake = str(self.venv / "bin/cmake")
        say(f"llama: compiling {name} (some minutes)")
        for words in (
            ("-G", "Ninja", "-S", str(tree), "-B", str(compiled), *OPTIONS),
            ("--build", str(compiled), "--target", TARGET),
        ):
            what = f"{name} could not be compiled"
            run(cmake, *words, environment=self.environment, what=what)
        files = {
            path.relative_to(tree).as_posix(): (path.read_bytes(), False)
            for path in (tree / "llama_cpp").rglob("*.py")
        }
        # Under the name that Python asks for, and under that by which they know each other.
        for library in [*compiled.glob("bin/*.so"), *compiled.glob("bin/*.so.?")]:
            files[f"llama_cpp/lib/{library.name}"] = (library.read_bytes(), False)
        licence = f"{name.replace('==', '-')}.dist-info/LICENSE.md"
        files[licence] = ((tree / "LICENSE.md").read_bytes(), False)
        return files


def unpack(wheel: Path) -> dict[str, tuple[bytes, bool]]:
    """The files of a wheel, as an installation of it has them below site-packages."""
    files = {}
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            inside = re.fullmatch(r"[^/]+\.data/(\w+)/(.*)", member)
            if member.endswith("/") or (inside and inside[1] in ("scripts", "headers")):
                continue
            if inside and inside[1] not in ("purelib", "platlib"):
                raise BuildError(f"{wheel.name}: {member} has no place on hosts")
            files[inside[2] if inside else member] = (archive.read(member), False)
    return files


@contextlib.contextmanager
def workspace(store: Path) -> Iterator[Path]:
    """A directory for one compilation at a time; what killed ones left is removed."""
    with (store / ".compile-lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        for stale in store.glob(".compiling-*"):
            shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".compiling-", dir=store) as directory:
            yield Path(directory)


def archive_name() -> str:
    ((package, _digest),) = locked("source").items()
    return f"{package.replace('==', '-')}-py{PYTHON_VERSION}-x86_64.tar.gz"


def build(out: Path, cache: Path, jobs: int, *, pin: bool = False) -> Path:
    """Return the finished archive, made if it is not there."""
    target = out / archive_name()
    pinned = json.loads((RECIPE / "pin.json").read_text()) if not pin else {}
    if not pin and pinned["recipe"] != recipe():
        raise BuildError("llama: the locks or options changed since the archive was pinned: --pin")
    if target.exists() and not pin:
        if releases.sha256_of(target) == pinned["sha256"]:
            say(f"llama: {target} is complete")
            return target
        say(f"llama: {target} is not the pinned archive: building it again")
    version = subprocess.run([PYTHON, "--version"], capture_output=True, text=True).stdout
    if not version.startswith(f"Python {PYTHON_VERSION}.") or platform.machine() != "x86_64":
        raise BuildError(f"this needs Python {PYTHON_VERSION} in {PYTHON}, on x86-64")
    made_with = compiler()
    store = cache / "artifacts"
    store.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    with (
        workspace(store) as work,
        tempfile.TemporaryDirectory(prefix=".building-", dir=out) as unfinished,
    ):
        builder = Builder(work, store, jobs)
        builder.prepare()
        installed = {}
        for wheel in builder.fetch("runtime"):
            installed |= unpack(wheel)
        installed |= builder.compile()
        files = {f"site-packages/{path}": file for path, file in installed.items()}
        archive = Path(unfinished) / target.name
        with archive.open("wb") as stream:
            releases.write_tar(stream, target.name.removesuffix(".tar.gz"), MTIME, files)
        digest = releases.sha256_of(archive)
        if pin:
            write_pin(digest, made_with)
        elif digest != pinned["sha256"]:
            raise BuildError(
                f"llama: built an archive of SHA-256 {digest}, pin.json says {pinned['sha256']}, "
                f"made with {pinned['compiler']}; here it is {made_with}. Another compiler gives "
                "other bytes: accept them with --pin"
            )
        archive.chmod(0o644)
        releases.keep(archive, target)
    return target


def write_pin(digest: str, made_with: str) -> None:
    pin = {"archive": archive_name(), "sha256": digest, "recipe": recipe(), "compiler": made_with}
    (RECIPE / "pin.json").write_text(json.dumps(pin, indent=2) + "\n")
    if LAB_VARIABLES.exists():
        text = LAB_VARIABLES.read_text()
        line = r"^(llama_release_checksum: )sha256:[0-9a-f]*$"
        LAB_VARIABLES.write_text(re.sub(line, rf"\g<1>sha256:{digest}", text, flags=re.M))
    say(f"llama: pinned {digest}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument(
        "--out", type=Path, help="directory for the archive (releases/ in the cache)"
    )
    parser.add_argument(
        "--cache", type=Path, default=releases.default_cache(), help="cache (%(default)s)"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="compilers at once (%(default)s)"
    )
    parser.add_argument(
        "--pin", action="store_true", help="accept what is built as the release (maintainers)"
    )
    options = parser.parse_args(arguments)
    try:
        out = options.out or options.cache / "releases"
        print(build(out, options.cache, options.jobs, pin=options.pin))
    except BuildError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
