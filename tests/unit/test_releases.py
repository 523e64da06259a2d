"""The release builder and the launchers that its Hadoop and Hive carry."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BUILDER = ROOT / "lab/releases/build.py"
HADOOP = ROOT / "lab/releases/hadoop"
HIVE = ROOT / "lab/releases/hive"
RELEASES = ["hadoop", "hive", "spark", "tez"]

specification = importlib.util.spec_from_file_location("release_builder", BUILDER)
builder = importlib.util.module_from_spec(specification)
sys.modules[specification.name] = builder
specification.loader.exec_module(builder)


# --- The archive ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65534, 65535, 65536, 131070, 200_001])
def test_stored_gzip_is_gzip(size):
    data = hashlib.shake_256(b"seed").digest(size)
    out = io.BytesIO()
    with builder.StoredGzip(out) as stream:
        for start in range(0, size, 10_007):
            stream.write(data[start : start + 10_007])
    assert gzip.decompress(out.getvalue()) == data


# --- A small release, with a Maven that has two artifacts --------------------------------------

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <artifactId>toy-{name}</artifactId>
  <dependencies>{dependencies}</dependencies>
</project>"""
DEPENDENCY = "<dependency><groupId>org.toy</groupId><artifactId>{}</artifactId></dependency>"
TOML = """
archive = "toy-1.tar.gz"
root = "toy-1"
mtime = 1700000000
checksum_variable = "toy_release_checksum"
[[module]]
name = "main"
jars = "share/toy"
lib = "share/toy/lib"
[[module]]
name = "parts"
[[part]]
artifact = "org.toy:web"
member = "pages/"
path = "share/web/"
"""
MAVEN = """#!/bin/sh
echo run >> "{directory}/maven-runs"
if [ -e "{directory}/hang" ]; then touch "{directory}/hanging"; exec sleep 60; fi
if [ -e "{directory}/broken" ]; then echo "[ERROR] the network is down"; exit 1; fi
for argument; do
  case $argument in -DoutputDirectory=*) out=${{argument#*=}};; esac
done
out=${{out%/*}}
mkdir -p "$out" && cp -r "{directory}/repository/." "$out"
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    return Toy(tmp_path, monkeypatch)


class Toy:
    def __init__(self, directory, monkeypatch):
        self.directory = directory
        self.releases = directory / "releases"
        self.release = self.releases / "toy"
        (self.release / "layout/bin").mkdir(parents=True)
        (self.release / "release.toml").write_text(TOML)
        for name, artifact in {"main": "core", "parts": "web"}.items():
            pom = POM.format(name=name, dependencies=DEPENDENCY.format(artifact))
            (self.release / f"{name}.xml").write_text(pom)
        self.program = self.release / "layout/bin/toy"
        self.program.write_text("#!/bin/sh\n")
        self.program.chmod(0o755)
        self.repository = directory / "repository"
        self.jar("toy-main/org/toy/core/1/core-1.jar", {"a": "core"})
        self.jar("toy-main/org/toy/needed/2/needed-2.jar", {"a": "needed"})
        self.jar("toy-parts/org/toy/web/1/web-1.jar", {"pages/index.html": "hi", "other": "x"})
        maven = directory / "bin/mvn"
        maven.parent.mkdir()
        maven.write_text(MAVEN.format(directory=directory))
        maven.chmod(0o755)
        self.versions = directory / "versions.yml"
        self.versions.write_text("toy_release_checksum: sha256:0\nother: sha256:0\n")
        self.out, self.cache = directory / "out", directory / "cache"
        self.archive = self.out / "toy-1.tar.gz"
        self.path = f"{maven.parent}:{os.environ['PATH']}"
        monkeypatch.setenv("PATH", self.path)
        monkeypatch.setattr(builder, "HERE", self.releases)
        monkeypatch.setattr(builder, "LAB_VERSIONS", self.versions)

    def pack(self, content):
        """A source package that leaves a trace when its code is run."""
        trace = f"open({str(self.ran)!r}, 'w')\n".encode()
        metadata = b"Metadata-Version: 2.1\nName: snake\nVersion: 1.0\n"
        members = {"PKG-INFO": (metadata, 0o644), "setup.py": (trace, 0o755)}
        members["deps/bin/snake"] = (content, 0o755)
        tar_of(self.package, {f"snake-1.0/{name}": file for name, file in members.items()})

    def jar(self, path, members):
        file = self.repository / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(file, "w") as jar:
            for name, content in members.items():
                jar.writestr(zipfile.ZipInfo(name), content)
        return file

    def run(self, *options):
        return builder.main(["--out", str(self.out), "--cache", str(self.cache), *options])

    def maven_runs(self):
        log = self.directory / "maven-runs"
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def pinned(toy):
    assert toy.run("--relock") == 0
    return toy


def test_layout_of_an_archive(pinned):
    with tarfile.open(pinned.archive) as tar:
        members = {member.name: member for member in tar}
        assert tar.extractfile("toy-1/share/web/index.html").read() == b"hi"
    assert list(members) == sorted(members)
    assert {name for name, member in members.items() if member.isfile()} == {
        "toy-1/bin/toy",
        "toy-1/share/toy/core-1.jar",
        "toy-1/share/toy/lib/needed-2.jar",
        "toy-1/share/web/index.html",
    }
    assert members["toy-1/bin/toy"].mode == 0o755
    assert members["toy-1/share/toy/core-1.jar"].mode == 0o644
    assert {(m.uid, m.gid, m.uname, m.mtime) for m in members.values()} == {
        (0, 0, "root", 1700000000)
    }


def test_the_pin_reaches_the_inventory(pinned):
    digest = hashlib.sha256(pinned.archive.read_bytes()).hexdigest()
    assert yaml.safe_load(pinned.versions.read_text()) == {
        "toy_release_checksum": f"sha256:{digest}",
        "other": "sha256:0",
    }


def test_a_second_run_only_checks(pinned):
    runs, before = pinned.maven_runs(), pinned.archive.stat()
    assert pinned.run() == 0
    assert pinned.maven_runs() == runs
    assert pinned.archive.stat().st_ino == before.st_ino


def test_two_builds_give_the_same_bytes(pinned):
    first = pinned.archive.read_bytes()
    for name in ("out", "cache"):
        shutil.rmtree(pinned.directory / name)
    os.utime(pinned.program, (1, 1))
    pinned.program.chmod(0o700)
    assert pinned.run() == 0
    assert pinned.archive.read_bytes() == first


def test_a_lost_archive_is_built_from_the_cache_alone(pinned):
    pinned.archive.unlink()
    (pinned.directory / "broken").touch()
    assert pinned.run() == 0
    assert pinned.archive.exists()


@pytest.mark.parametrize("damage", ["truncated", "grown", "foreign"])
def test_an_archive_that_is_not_the_pinned_one_is_replaced(pinned, damage):
    good = pinned.archive.read_bytes()
    pinned.archive.write_bytes(
        {"truncated": good[:1000], "grown": good + b"x", "foreign": b"other"}[damage]
    )
    assert pinned.run() == 0
    assert pinned.archive.read_bytes() == good


def test_a_replaced_artifact_is_refused(pinned, capsys):
    for name in ("out", "cache"):
        shutil.rmtree(pinned.directory / name)
    pinned.jar("toy-main/org/toy/core/1/core-1.jar", {"a": "evil"})
    assert pinned.run() == 1
    assert "org/toy/core/1/core-1.jar has SHA-256" in capsys.readouterr().err
    assert not pinned.archive.exists()


def test_an_artifact_that_is_not_locked_is_refused(pinned, capsys):
    for name in ("out", "cache"):
        shutil.rmtree(pinned.directory / name)
    pinned.jar("toy-main/org/toy/new/1/new-1.jar", {"a": "b"})
    assert pinned.run() == 1
    assert "not in artifacts.lock: org/toy/new/1/new-1.jar" in capsys.readouterr().err


def test_a_damaged_cache_is_noticed_and_mends_itself(pinned, capsys):
    pinned.archive.unlink()
    victim = next(
        file
        for file in (pinned.cache / "artifacts").rglob("*")
        if file.is_file() and b"core" in file.read_bytes()
    )
    victim.write_bytes(b"rot")
    assert pinned.run() == 1
    assert "run again" in capsys.readouterr().err
    assert not pinned.archive.exists()
    assert pinned.run() == 0


def test_a_changed_recipe_needs_a_new_pin(pinned, capsys):
    pinned.program.write_text("#!/bin/sh\nexit 0\n")
    assert pinned.run() == 1
    assert "--pin" in capsys.readouterr().err
    before = pinned.versions.read_text()
    assert pinned.run("--pin") == 0
    assert pinned.versions.read_text() != before
    assert pinned.run() == 0


def test_a_failing_maven_is_reported_with_its_words(pinned, capsys):
    shutil.rmtree(pinned.cache)
    pinned.archive.unlink()
    (pinned.directory / "broken").touch()
    assert pinned.run() == 1
    assert "the network is down" in capsys.readouterr().err


def test_no_maven(pinned, capsys, monkeypatch):
    shutil.rmtree(pinned.cache)
    pinned.archive.unlink()
    monkeypatch.setenv("PATH", "/nonexistent")
    assert pinned.run() == 1
    assert "apt-get install maven" in capsys.readouterr().err


def test_two_versions_of_an_artifact_cannot_be_locked(toy, capsys):
    toy.jar("toy-main/org/toy/core/9/core-9.jar", {"a": "b"})
    assert toy.run("--relock") == 1
    assert "manage its version" in capsys.readouterr().err


def test_an_unknown_release(toy, capsys):
    assert toy.run("hbase") == 1
    assert "no release 'hbase'; there are: toy" in capsys.readouterr().err


def test_a_killed_build_leaves_nothing_that_looks_finished(pinned):
    good = pinned.archive.read_bytes()
    shutil.rmtree(pinned.cache)
    pinned.archive.unlink()
    (pinned.directory / "hang").touch()
    code = (
        f"import sys; sys.path.insert(0, {str(BUILDER.parent)!r}); import build, pathlib; "
        f"build.HERE = pathlib.Path({str(pinned.releases)!r}); "
        f"build.main(['--out', {str(pinned.out)!r}, '--cache', {str(pinned.cache)!r}])"
    )
    process = subprocess.Popen(
        [sys.executable, "-B", "-c", code], env={"PATH": pinned.path}, start_new_session=True
    )
    deadline = time.monotonic() + 20
    while not (pinned.directory / "hanging").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not pinned.archive.exists()
    (pinned.directory / "hang").unlink()
    assert pinned.run() == 0
    assert pinned.archive.read_bytes() == good
    assert not list((pinned.cache / "artifacts").glob(".work-*"))


# --- Archives in archives ----------------------------------------------------------------------


def tar_of(file, members):
    """A tar.gz of members: content and mode by name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w:gz") as tar:
        for name, (content, mode) in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    return file


def files_in(archive):
    with tarfile.open(archive) as tar:
        return {
            member.name: (tar.extractfile(member).read(), member.mode)
            for member in tar
            if member.isfile()
        }


def test_parts_of_a_tar_archive(toy):
    path = "toy-parts/org/toy/dist/1/dist-1-bin.tar.gz"
    members = {"dist/bin/run": (b"#!", 0o775), "dist/bin/run.cmd": (b"", 0o644)}
    tar_of(toy.repository / path, members | {"dist/lib/big": (b"x", 0o600)})
    (toy.release / "release.toml").write_text(
        TOML + '[[part]]\nartifact = "org.toy:dist:bin"\nmember = "dist/bin/"\npath = "bin/"\n'
        'without = ["*.cmd"]\n'
    )
    assert toy.run("--relock") == 0
    files = files_in(toy.archive)
    assert files["toy-1/bin/run"] == (b"#!", 0o755)
    assert not {name for name in files if "cmd" in name or "big" in name or "dist" in name}


def test_a_part_that_is_not_there_is_named(toy, capsys):
    (toy.release / "release.toml").write_text(TOML.replace('"pages/"', '"sites/"'))
    assert toy.run("--relock") == 1
    assert "no sites/ in org.toy:web" in capsys.readouterr().err
    assert not toy.archive.exists()


def test_what_maven_notes_beside_artifacts_is_no_artifact(toy):
    for name in ("_remote.repositories", "maven-metadata-local.xml"):
        (toy.repository / "toy-main/org/toy/core/1" / name).write_text("x")
    assert toy.run("--relock") == 0
    assert not [a for a in builder.Release(toy.release).artifacts() if "jar" not in a.file]


def test_an_archive_in_the_archive(toy):
    nested = '[[nested]]\npath = "share/all.tar.gz"\ncopies = ["share/toy"]\nmoves = "inner/"\n'
    text = TOML.replace('lib = "share/toy/lib"', 'lib = "inner/lib"')
    (toy.release / "release.toml").write_text(text + nested)
    assert toy.run("--relock") == 0
    files = files_in(toy.archive)
    assert not {name for name in files if "inner" in name}
    assert "toy-1/share/toy/core-1.jar" in files
    inner, _ = files["toy-1/share/all.tar.gz"]
    (toy.directory / "inner.tar.gz").write_bytes(inner)
    assert set(files_in(toy.directory / "inner.tar.gz")) == {
        "./share/toy/core-1.jar",
        "./lib/needed-2.jar",
    }
    first = toy.archive.read_bytes()
    toy.archive.unlink()
    assert toy.run() == 0
    assert toy.archive.read_bytes() == first


# --- A release from the index of Python packages, with the real pip and a directory as the index -

PYTHON_TOML = """
archive = "snake-1.tgz"
root = "snake-1"
mtime = 1700000000
checksum_variable = "toy_release_checksum"
[pypi]
snake = "1.0"
[[part]]
artifact = "pypi:snake"
member = "snake-1.0/deps/bin/"
path = "bin/"
"""


@pytest.fixture
def snake(tmp_path, monkeypatch):
    toy = Toy(tmp_path, monkeypatch)
    toy.release = toy.releases / "snake"
    shutil.copytree(toy.releases / "toy/layout", toy.release / "layout")
    shutil.rmtree(toy.releases / "toy")
    (toy.release / "release.toml").write_text(PYTHON_TOML)
    toy.archive = toy.out / "snake-1.tgz"
    toy.package = tmp_path / "index/snake-1.0.tar.gz"
    toy.ran = tmp_path / "the-code-of-the-package-ran"
    toy.pack(b"bite")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(toy.package.parent))
    # Maven is not needed.
    (tmp_path / "broken").touch()
    return toy


def test_a_package_is_downloaded_and_not_run(snake, monkeypatch):
    assert snake.run("--relock") == 0
    assert not snake.ran.exists()
    assert files_in(snake.archive)["snake-1/bin/snake"] == (b"bite", 0o755)
    (artifact,) = builder.Release(snake.release).artifacts()
    assert artifact.repository_path == "pypi/snake/1.0/snake-1.0.tar.gz"
    assert artifact.sha256 == hashlib.sha256(snake.package.read_bytes()).hexdigest()
    # From the cache alone.
    first = snake.archive.read_bytes()
    snake.archive.unlink()
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    assert snake.run() == 0
    assert snake.archive.read_bytes() == first


def test_a_replaced_package_is_refused(snake, capfd):
    assert snake.run("--relock") == 0
    for name in ("out", "cache"):
        shutil.rmtree(snake.directory / name)
    snake.pack(b"evil")
    assert snake.run() == 1
    assert "pypi/snake/1.0/snake-1.0.tar.gz has SHA-256" in capfd.readouterr().err
    assert not snake.ran.exists()
    assert not snake.archive.exists()


def test_a_package_that_is_not_found(snake, capfd):
    snake.package.unlink()
    assert snake.run("--relock") == 1
    error = capfd.readouterr().err
    assert "No matching distribution found for snake==1.0" in error
    assert "pip failed; the lines above say why" in error


# --- The real releases ------------------------------------------------------------------------


def test_all_releases_are_here():
    assert [release.name for release in builder.releases([])] == RELEASES


@pytest.mark.parametrize("name", RELEASES)
def test_the_pins_agree(name):
    release = builder.Release(BUILDER.parent / name)
    pin = release.pin()
    assert pin["recipe"] == release.recipe(), "run lab/releases/build.py --pin"
    versions = yaml.safe_load((ROOT / "inventories/lab/group_vars/all/versions.yml").read_text())
    assert release.checksum_variable == f"cluster_{name}_checksum"
    assert versions[release.checksum_variable] == f"sha256:{pin['sha256']}"
    url = versions[f"cluster_{name}_url"]
    version = versions[f"cluster_{name}_version"]
    file = url.rpartition("/")[2].replace(f"{{{{ cluster_{name}_version }}}}", version)
    assert release.archive == file
    assert version in release.root


@pytest.mark.parametrize(
    ("name", "least"), [("hadoop", 150), ("hive", 200), ("spark", 1), ("tez", 100)]
)
def test_the_lock_names_each_artifact_and_place_once(name, least):
    artifacts = builder.Release(BUILDER.parent / name).artifacts()
    assert len({artifact.key for artifact in artifacts}) == len(artifacts) >= least
    places = [artifact.path for artifact in artifacts if artifact.path != "-"]
    assert len(set(places)) == len(places)
    assert all(re.fullmatch(r"[0-9a-f]{64}", artifact.sha256) for artifact in artifacts)


def test_the_example_takes_apaches_release_by_apaches_checksum():
    path = ROOT / "inventories/example/group_vars/all/versions.yml"
    versions = yaml.safe_load(path.read_text())
    assert versions["cluster_hadoop_url"].startswith("https://archive.apache.org/dist/hadoop/")
    assert versions["cluster_hadoop_checksum"] == "sha512:{{ cluster_hadoop_url }}.sha512"


@pytest.mark.parametrize(("content", "fetched"), [(b"release", True), (b"other", False)])
def test_apaches_checksum_files_are_understood(tmp_path, content, fetched):
    """get_url reads "SHA512 (file) = digest", which is what Apache publishes."""
    archive = tmp_path / "hadoop-3.4.2.tar.gz"
    archive.write_bytes(content)
    digest = hashlib.sha512(b"release").hexdigest()
    Path(f"{archive}.sha512").write_text(f"SHA512 ({archive.name}) = {digest}\n")
    arguments = {
        "url": archive.as_uri(),
        "checksum": f"sha512:{archive.as_uri()}.sha512",
        "dest": str(tmp_path / "fetched"),
        "mode": "0644",
    }
    result = subprocess.run(
        [
            *(sys.executable, "-m", "ansible", "adhoc", "localhost", "-i", "localhost,"),
            *("-c", "local", "-m", "ansible.builtin.get_url", "-a", json.dumps(arguments)),
            *("-e", f"ansible_python_interpreter={sys.executable}"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == (0 if fetched else 2), result.stdout + result.stderr
    assert (tmp_path / "fetched").exists() is fetched, result.stdout + result.stderr


def built(name):
    """What the lab installs: built when it is not in the cache."""
    run = subprocess.run(
        [sys.executable, BUILDER, name], stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(run.stdout.strip())


@pytest.fixture(scope="module")
def archive():
    return built("hadoop")


@pytest.mark.parametrize(
    ("name", "paths", "programs"),
    [
        (
            "hive",
            [
                *(f"lib/hive-{name}-4.0.1.jar" for name in ("exec", "service", "jdbc")),
                "lib/hive-standalone-metastore-server-4.0.1.jar",
                "scripts/metastore/upgrade/postgres/hive-schema-4.0.0.postgres.sql",
            ],
            ["bin/hive", "bin/beeline", "bin/schematool"],
        ),
        ("tez", ["tez-dag-0.10.4.jar", "lib/RoaringBitmap-0.7.45.jar", "share/tez.tar.gz"], []),
        (
            "spark",
            [
                *("jars/spark-core_2.13-4.3.0.jar", "jars/spark-yarn_2.13-4.3.0.jar"),
                *("python/lib/pyspark.zip", "python/pyspark/shell.py"),
            ],
            [
                *(
                    f"bin/{name}"
                    for name in ("pyspark", "spark-class", "spark-sql", "spark-submit")
                ),
                "examples/src/main/python/pi.py",
            ],
        ),
    ],
)
def test_the_other_archives_are_apaches_layout(name, paths, programs):
    with tarfile.open(built(name)) as tar:
        modes = {member.name.partition("/")[2]: member.mode for member in tar}
    assert {path: modes.get(path) for path in paths} == dict.fromkeys(paths, 0o644)
    assert {path: modes.get(path) for path in programs} == dict.fromkeys(programs, 0o755)


def test_what_containers_get_of_tez_runs_alone(tmp_path):
    """Client, application master and tasks in one Java, with no other library than these."""
    with tarfile.open(built("tez")) as tar:
        inner = tar.extractfile("apache-tez-0.10.4-bin/share/tez.tar.gz").read()
    (tmp_path / "tez").mkdir()
    subprocess.run(["tar", "-xzC", tmp_path / "tez"], input=inner, check=True)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/text").write_text("a b\nb c b\n")
    properties = {
        "fs.defaultFS": "file:///",
        "tez.local.mode": "true",
        "tez.ignore.lib.uris": "true",
        "tez.staging-dir": f"{tmp_path}/staging",
    }
    run = subprocess.run(
        [
            *("java", "--add-opens=java.base/java.lang=ALL-UNNAMED"),
            *("-cp", f"{tmp_path}/tez/*:{tmp_path}/tez/lib/*"),
            "org.apache.tez.examples.OrderedWordCount",
            *(f"-D{name}={value}" for name, value in properties.items()),
            *(str(tmp_path / "in"), str(tmp_path / "out")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stdout
    counted = [file.read_text() for file in sorted((tmp_path / "out").glob("part-*"))]
    assert sorted("".join(counted).split("\n")[:-1]) == ["a\t1", "b\t3", "c\t1"]
    # Hive's tasks need it, and Hadoop no longer has it.
    assert list((tmp_path / "tez/lib").glob("commons-collections-3.*.jar"))


def test_the_archive_is_apaches_layout(archive):
    with tarfile.open(archive) as tar:
        archive_members = {member.name.partition("/")[2]: member for member in tar}
    for path in (
        *(f"bin/{name}" for name in ("hadoop", "hdfs", "yarn", "mapred")),
        *("LICENSE.txt", "NOTICE.txt", "etc/hadoop/log4j.properties", "lib/native/libhadoop.so"),
        "share/hadoop/common/hadoop-common-3.4.2.jar",
        "share/hadoop/common/hadoop-kms-3.4.2.jar",
        "share/hadoop/hdfs/hadoop-hdfs-3.4.2.jar",
        *(f"share/hadoop/hdfs/webapps/{name}/index.html" for name in ("hdfs", "datanode")),
        "share/hadoop/yarn/hadoop-yarn-server-nodemanager-3.4.2.jar",
        "share/hadoop/yarn/timelineservice/hadoop-yarn-server-timelineservice-3.4.2.jar",
        "share/hadoop/mapreduce/hadoop-mapreduce-client-shuffle-3.4.2.jar",
        "share/hadoop/mapreduce/hadoop-mapreduce-examples-3.4.2.jar",
        "share/hadoop/tools/lib/hadoop-distcp-3.4.2.jar",
    ):
        assert archive_members[path].isfile(), path
    assert not [path for path in archive_members if re.search(r"-(tests|sources)\.jar$", path)]


def test_every_class_that_a_launcher_names_is_in_the_archive(archive):
    classes = set()
    with tarfile.open(archive) as tar:
        for member in tar:
            if "/hadoop-" in member.name and member.name.endswith(".jar"):
                with zipfile.ZipFile(io.BytesIO(tar.extractfile(member).read())) as jar:
                    classes |= {name.replace("/", ".")[:-6] for name in jar.namelist()}
    named = set()
    for launcher in (HADOOP / "layout/bin").iterdir():
        text = launcher.read_text()
        packages = dict(re.findall(r"(\w+)=(org\.apache[\w.]+)(?=\s)", text))
        for value in re.findall(r"CLASS=(\S+)", text):
            named.add(re.sub(r"\$(\w+)", lambda match: packages[match[1]], value))  # noqa: B023
    assert len(named) > 60
    assert named <= classes


# --- Launchers --------------------------------------------------------------------------------

JAVA = """#!/bin/bash
printf '%s\\0' "$$" "$CLASSPATH" "$HADOOP_CONF_DIR" "$#" "$@"
"""


@pytest.fixture
def home(tmp_path):
    """A release whose Java tells how it was called."""
    home = tmp_path / "hadoop"
    shutil.copytree(HADOOP / "layout", home)
    for directory in ("lib/native", "share/hadoop/common/lib"):
        (home / directory).mkdir(parents=True)
    java = tmp_path / "java/bin/java"
    java.parent.mkdir(parents=True)
    java.write_text(JAVA)
    java.chmod(0o755)
    (tmp_path / "java/release").write_text('JAVA_VERSION="17.0.15"\n')
    return home


def launch(home, *command, check=True, **environment):
    environment = {
        "PATH": "/usr/bin:/bin",
        "JAVA_HOME": str(home.parent / "java"),
        **environment,
    }
    program, *arguments = command
    process = subprocess.Popen(
        [home / "bin" / program, *arguments],
        env={name: value for name, value in environment.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    stdout, stderr = process.communicate(timeout=20)
    if not check:
        return process.returncode, stdout, stderr
    assert process.returncode == 0, stderr
    pid, classpath, conf, _, *arguments = stdout.split("\0")[:-1]
    # A supervisor must see the daemon itself.
    assert int(pid) == process.pid
    return Launched(classpath, conf, arguments)


class Launched:
    def __init__(self, classpath, conf, arguments):
        self.classpath = classpath.split(":")
        self.conf = conf
        index = next(i for i, word in enumerate(arguments) if not word.startswith("-"))
        self.options, self.main, self.arguments = (
            arguments[:index],
            arguments[index],
            arguments[index + 1 :],
        )

    def last(self, prefix):
        return [option for option in self.options if option.startswith(prefix)][-1]


@pytest.mark.parametrize(
    ("command", "main", "arguments"),
    [
        ("hdfs namenode -format", "hdfs.server.namenode.NameNode", ["-format"]),
        ("hdfs datanode", "hdfs.server.datanode.DataNode", []),
        ("hdfs dfs -ls /", "fs.FsShell", ["-ls", "/"]),
        ("hdfs haadmin -getAllServiceState", "hdfs.tools.DFSHAAdmin", ["-getAllServiceState"]),
        ("hdfs lsSnapshottableDir", "hdfs.tools.snapshot.LsSnapshottableDir", []),
        ("yarn resourcemanager", "yarn.server.resourcemanager.ResourceManager", []),
        ("yarn application -list", "yarn.client.cli.ApplicationCLI", ["application", "-list"]),
        ("yarn container -list x", "yarn.client.cli.ApplicationCLI", ["container", "-list", "x"]),
        ("yarn version", "util.VersionInfo", []),
        ("mapred historyserver", "mapreduce.v2.hs.JobHistoryServer", []),
        ("mapred job -list", "mapred.JobClient", ["-list"]),
        ("hadoop fs -cat x", "fs.FsShell", ["-cat", "x"]),
        ("hadoop jar x.jar Main", "util.RunJar", ["x.jar", "Main"]),
        ("hadoop org.apache.hadoop.conf.Thing a", "conf.Thing", ["a"]),
        ("hadoop classpath --glob", "util.Classpath", ["--glob"]),
    ],
)
def test_subcommands(home, command, main, arguments):
    launched = launch(home, *command.split())
    assert launched.main == f"org.apache.hadoop.{main}"
    assert launched.arguments == arguments


def test_arguments_arrive_as_they_were_given(home):
    arguments = ["-ls", "a b", "", "*", "$HOME", "'", "new\nline"]
    assert launch(home, "hdfs", "dfs", *arguments).arguments == arguments


def test_class_path_is_apaches(home):
    classpath = launch(home, "hdfs", "namenode").classpath
    share = f"{home}/share/hadoop"
    assert classpath[0] == f"{home}/etc/hadoop"
    for entry in ("common/lib/*", "common/*", "hdfs", "hdfs/*", "yarn/lib/*", "mapreduce/*"):
        assert f"{share}/{entry}" in classpath
    assert not any("tools" in entry or "timelineservice" in entry for entry in classpath)
    for daemon in ("resourcemanager", "nodemanager"):
        assert f"{share}/yarn/timelineservice/*" in launch(home, "yarn", daemon).classpath
    assert f"{share}/tools/lib/*" in launch(home, "hadoop", "distcp").classpath
    code, printed, _ = launch(home, "hadoop", "classpath", check=False)
    assert (code, printed) == (0, ":".join(classpath) + "\n")


def test_additions_to_the_class_path(home):
    assert launch(home, "hadoop", "fs", HADOOP_CLASSPATH="/x/*").classpath[-1] == "/x/*"
    first = launch(home, "hadoop", "fs", HADOOP_CLASSPATH="/x", HADOOP_USER_CLASSPATH_FIRST="yes")
    assert first.classpath[0] == "/x"


def test_options_of_daemons_and_clients(home):
    environment = {
        "HADOOP_OPTS": "-Dshared=1 -Dglob=* -Dwins=shared",
        "HADOOP_CLIENT_OPTS": "-Dclient=1",
        "HDFS_NAMENODE_OPTS": "-Dnamenode=1\n-Dwins=namenode -Xmx300m",
        "YARN_RESOURCEMANAGER_OPTS": "-Dresourcemanager=1",
        "HADOOP_HEAPSIZE_MAX": "777",
    }
    daemon = launch(home, "hdfs", "namenode", **environment)
    assert {"-Dshared=1", "-Dglob=*", "-Dnamenode=1"} <= set(daemon.options)
    assert not {"-Dclient=1", "-Dresourcemanager=1"} & set(daemon.options)
    assert daemon.last("-Dwins") == "-Dwins=namenode"
    assert daemon.last("-Xmx") == "-Xmx300m"
    client = launch(home, "hdfs", "dfs", **environment)
    assert {"-Dshared=1", "-Dclient=1"} <= set(client.options)
    assert "-Dnamenode=1" not in client.options
    assert client.last("-Xmx") == "-Xmx777m"
    assert launch(home, "hdfs", "dfs", HADOOP_HEAPSIZE_MAX="2g").last("-Xmx") == "-Xmx2g"
    other = launch(home, "yarn", "resourcemanager", **environment)
    assert "-Dresourcemanager=1" in other.options


def test_properties_that_logging_needs(home):
    environment = {"HADOOP_LOG_DIR": "/var/log/x", "HADOOP_LOGFILE": "nn.log"}
    environment |= {"HADOOP_ROOT_LOGGER": "INFO,RFA", "HDFS_AUDIT_LOGGER": "INFO,RFAAUDIT"}
    daemon = launch(home, "hdfs", "namenode", **environment)
    assert {
        "-Dproc_namenode",
        "-Dhadoop.log.dir=/var/log/x",
        "-Dhadoop.log.file=nn.log",
        "-Dhadoop.root.logger=INFO,RFA",
        "-Dhdfs.audit.logger=INFO,RFAAUDIT",
        f"-Djava.library.path={home}/lib/native",
    } <= set(daemon.options)
    shell = launch(home, "hdfs", "--loglevel", "DEBUG", "dfs", **environment)
    assert shell.last("-Dhadoop.root.logger") == "-Dhadoop.root.logger=DEBUG,console"


@pytest.mark.parametrize(("version", "expected"), [("17.0.15", 5), ("11.0.2", 5), ("1.8.0_402", 0)])
def test_java_before_9_knows_no_modules(home, version, expected):
    (home.parent / "java/release").write_text(f'JAVA_VERSION="{version}"\n')
    options = launch(home, "hdfs", "dfs").options
    assert len([option for option in options if option.startswith("--add-opens=")]) == expected


def test_configuration_directory(home, tmp_path):
    conf = tmp_path / "conf"
    conf.mkdir()
    # Sites write such files without thought of unset variables.
    (conf / "hadoop-env.sh").write_text('HADOOP_OPTS="$UNSET -Dfrom=env"\nfalse\n')
    (conf / "yarn-env.sh").write_text('HADOOP_OPTS="$HADOOP_OPTS -Dyarn=env"\n')
    for launched in (
        launch(home, "yarn", "--config", str(conf), "node"),
        launch(home, "yarn", "node", HADOOP_CONF_DIR=str(conf)),
    ):
        assert launched.conf == launched.classpath[0] == str(conf)
        assert {"-Dfrom=env", "-Dyarn=env"} <= set(launched.options)
    assert "-Dyarn=env" not in launch(home, "hdfs", "dfs", HADOOP_CONF_DIR=str(conf)).options


def test_the_home_is_where_the_launcher_is_called(home, tmp_path):
    current = tmp_path / "current"
    current.symlink_to(home)
    program = tmp_path / "hdfs"
    program.symlink_to("current/bin/hdfs")
    for path in (current / "bin/hdfs", program):
        run = subprocess.run(
            [path, "dfs"],
            env={"PATH": "/usr/bin:/bin", "JAVA_HOME": str(tmp_path / "java")},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert f"-Dhadoop.home.dir={current}" in run.stdout.split("\0")


def test_java_is_found_in_the_path(home):
    path = f"{home.parent}/java/bin:/usr/bin:/bin"
    assert launch(home, "hdfs", "dfs", JAVA_HOME=None, PATH=path).main.endswith("FsShell")


@pytest.mark.parametrize(
    ("command", "environment", "code", "text"),
    [
        ("hdfs --daemon start namenode", {}, 2, "foreground under a supervisor"),
        ("hdfs --workers namenode", {}, 2, "not supported"),
        ("hdfs --nonsense dfs", {}, 2, "unknown option --nonsense"),
        ("hdfs --config", {}, 2, "needs a directory"),
        ("hdfs --config /nonexistent dfs", {}, 2, "/nonexistent"),
        ("hdfs dfs", {"HADOOP_CONF_DIR": "/nonexistent"}, 1, "/nonexistent"),
        ("hdfs dfs", {"JAVA_HOME": "/nonexistent"}, 1, "JAVA_HOME is /nonexistent"),
        ("hdfs nonsense", {}, 1, "no command named nonsense"),
        ("hdfs nfs3", {}, 2, "not part of this release"),
        ("hadoop namenode", {}, 2, "use hdfs namenode"),
        ("yarn historyserver", {}, 2, "mapred historyserver"),
        ("hdfs", {}, 1, "Usage: hdfs"),
        ("hdfs namenode", {"HDFS_NAMENODE_USER": "nobody-there"}, 1, "only be executed by"),
    ],
)
def test_what_cannot_be_done_is_said(home, command, environment, code, text):
    returned, _, stderr = launch(home, *command.split(), check=False, **environment)
    assert returned == code
    assert text in stderr


@pytest.mark.parametrize("launcher", ["hadoop", "hdfs", "yarn", "mapred"])
def test_help(home, launcher):
    code, stdout, _ = launch(home, launcher, "--help", check=False)
    assert code == 0
    assert stdout.startswith(f"Usage: {launcher} ")


# --- Launchers of Hive ------------------------------------------------------------------------

HADOOP_STUB = """#!/bin/bash
printf '%s\\0' "$$" "$HADOOP_CLASSPATH" "$HADOOP_OPTS" "$HADOOP_USER_CLASSPATH_FIRST" \\
    "$HADOOP_CONF_DIR" "${METASTORE_HOME:-}" "$@"
"""


@pytest.fixture
def hive(tmp_path):
    """Hive's launchers beside a Hadoop that tells how it was called."""
    home = tmp_path / "hive"
    shutil.copytree(HIVE / "layout", home)
    (home / "conf").mkdir(exist_ok=True)
    hadoop = tmp_path / "hadoop/bin/hadoop"
    hadoop.parent.mkdir(parents=True)
    hadoop.write_text(HADOOP_STUB)
    hadoop.chmod(0o755)
    return home


def launch_hive(home, *command, check=True, **environment):
    environment = {
        "PATH": "/usr/bin:/bin",
        "HADOOP_HOME": str(home.parent / "hadoop"),
        **environment,
    }
    program, *arguments = command
    process = subprocess.Popen(
        [home / "bin" / program, *arguments],
        env={name: value for name, value in environment.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    stdout, stderr = process.communicate(timeout=20)
    if not check:
        return process.returncode, stdout, stderr
    assert process.returncode == 0, stderr
    pid, classpath, options, first, conf, metastore, main, *arguments = stdout.split("\0")[:-1]
    # A supervisor must see the daemon itself.
    assert int(pid) == process.pid
    assert first == "true"
    return {
        "classpath": classpath.split(":"),
        "options": options.split(),
        "conf": conf,
        "metastore": metastore,
        "main": main.removeprefix("org.apache."),
        "arguments": arguments,
    }


@pytest.mark.parametrize(
    ("command", "main", "arguments"),
    [
        ("hive --service metastore -p 9083", "hadoop.hive.metastore.HiveMetaStore", ["-p", "9083"]),
        ("hive --service hiveserver2", "hive.service.server.HiveServer2", []),
        ("hive --service hiveserver2 --help", "hive.service.server.HiveServer2", ["--help"]),
        ("hive -e x", "hive.beeline.BeeLine", ["-e", "x"]),
        ("hive --version", "hive.common.util.HiveVersionInfo", []),
        ("beeline -u jdbc:hive2://", "hive.beeline.BeeLine", ["-u", "jdbc:hive2://"]),
        ("beeline --help", "hive.beeline.BeeLine", ["--help"]),
        (
            "schematool -dbType postgres -info",
            "hadoop.hive.metastore.tools.schematool.MetastoreSchemaTool",
            ["-dbType", "postgres", "-info"],
        ),
    ],
)
def test_services_of_hive(hive, command, main, arguments):
    launched = launch_hive(hive, *command.split())
    assert launched["main"] == main
    assert launched["arguments"] == arguments


def test_every_class_that_hive_names_is_in_the_archive():
    classes = set()
    with tarfile.open(built("hive")) as tar:
        for member in tar:
            if "/lib/hive-" in member.name:
                with zipfile.ZipFile(io.BytesIO(tar.extractfile(member).read())) as jar:
                    classes |= {name.replace("/", ".")[:-6] for name in jar.namelist()}
    named = set(re.findall(r"class=(org\.apache\S+)", (HIVE / "layout/bin/hive").read_text()))
    assert len(named) == 7
    assert named <= classes


def test_class_path_of_hive(hive, tmp_path):
    plain = launch_hive(hive, "beeline")
    hadoop_conf = f"{tmp_path}/hadoop/etc/hadoop"
    assert plain["classpath"] == [f"{hive}/conf", hadoop_conf, f"{hive}/lib/*"]
    assert plain["conf"] == hadoop_conf
    tez = tmp_path / "tez"
    for directory in ("tez", "aux", "conf", "tez-conf"):
        (tmp_path / directory).mkdir()
    launched = launch_hive(
        hive,
        *("hive", "--config", str(tmp_path / "conf"), "--service", "hiveserver2"),
        HADOOP_CONF_DIR="/etc/hadoop",
        TEZ_HOME=str(tez),
        TEZ_CONF_DIR=str(tmp_path / "tez-conf"),
        HIVE_AUX_JARS_PATH=f"{tmp_path}/aux,/usr/share/java/postgresql.jar,",
        HADOOP_CLASSPATH="/site/*",
    )
    assert launched["classpath"] == [
        *(f"{tmp_path}/conf", "/etc/hadoop", f"{tmp_path}/tez-conf", f"{hive}/lib/*"),
        *(f"{tmp_path}/aux/*", "/usr/share/java/postgresql.jar"),
        *(f"{tez}/*", f"{tez}/lib/*", "/site/*"),
    ]


def test_options_of_hive(hive):
    environment = {
        "HADOOP_OPTS": "-Dlast=1",
        "HIVE_METASTORE_HADOOP_OPTS": "-Dmetastore=1",
        "HIVE_SERVER2_HADOOP_OPTS": "-Dhiveserver2=1",
    }
    metastore = launch_hive(hive, "hive", "--service", "metastore", **environment)["options"]
    assert {"-Dproc_metastore", "-Dmetastore=1"} <= set(metastore)
    assert "-Dhiveserver2=1" not in metastore
    assert "--add-opens=java.base/java.net=ALL-UNNAMED" in metastore
    assert metastore[-1] == "-Dlast=1"
    server = launch_hive(hive, "hive", "--service", "hiveserver2", **environment)["options"]
    assert {"-Dproc_hiveserver2", "-Dhiveserver2=1"} <= set(server)


def test_schematool_knows_where_its_scripts_are(hive):
    assert launch_hive(hive, "schematool", "-info")["metastore"] == str(hive)


def test_environment_of_a_site(hive):
    (hive / "conf/hive-env.sh").write_text('HADOOP_OPTS="$UNSET -Dfrom=env"\nfalse\n')
    assert launch_hive(hive, "beeline")["options"][-1] == "-Dfrom=env"


def test_hive_is_found_through_links_and_hadoop_in_the_path(hive, tmp_path):
    (tmp_path / "current").symlink_to(hive)
    (tmp_path / "beeline").symlink_to("current/bin/beeline")
    path = f"{tmp_path}/hadoop/bin:/usr/bin:/bin"
    for program in ("current/bin/hive", "beeline"):
        run = subprocess.run(
            [tmp_path / program], env={"PATH": path}, stdout=subprocess.PIPE, text=True, check=True
        )
        assert run.stdout.split("\0")[1].split(":")[-1].endswith("/lib/*")


@pytest.mark.parametrize(
    ("command", "environment", "code", "text"),
    [
        ("hive --service nonsense", {}, 2, "no service named nonsense"),
        ("hive --service cli", {}, 2, "use beeline"),
        ("hive --service", {}, 2, "--service needs a value"),
        ("hive --config /nonexistent", {}, 2, "no configuration directory /nonexistent"),
        ("hive", {"HADOOP_HOME": None}, 1, "no hadoop in PATH"),
        ("hive", {"HADOOP_HOME": "/nonexistent"}, 1, "HADOOP_HOME is /nonexistent"),
        ("hive", {"TEZ_HOME": "/nonexistent"}, 1, "no directory /nonexistent"),
    ],
)
def test_what_hive_cannot_do_is_said(hive, command, environment, code, text):
    returned, _, stderr = launch_hive(hive, *command.split(), check=False, **environment)
    assert returned == code
    assert text in stderr


def test_help_of_hive(hive):
    code, stdout, _ = launch_hive(hive, "hive", "--help", check=False)
    assert code == 0
    assert stdout.startswith("Usage: hive ")
