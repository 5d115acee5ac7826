"""The run store and the disk: SIGKILL, no space left, folders and files without write access."""

import gc
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tso import Ledger, errors

from tests.stores import metrics, prompts, python


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.sqlite"


WRITER = """
import sys
from tso import Ledger
path, start = sys.argv[1:]
with Ledger.open(path) as ledger:
    for unit in range(int(start), 100_000):
        rows = [(0, unit * 100 + i, "loss", float(i)) for i in range(unit % 50 + 1)]
        ledger.write(0, "u", unit, str(len(rows)), {"metrics": (["iteration", "step", "name", "value"], rows)})
        print(unit, flush=True)
"""


def kill_while_writing(path, start, delay):
    """The last unit that the child said was written; it is killed `delay` seconds after its first."""
    line = [sys.executable, "-c", WRITER, str(path), str(start)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as child:
        told = [child.stdout.readline()]
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        told += child.stdout.read().splitlines(keepends=True)
    return int([line for line in told if line.endswith("\n")][-1])


def test_sigkill_loses_nothing_that_was_acknowledged(path):
    Ledger.create(path, {}).close()
    moments = random.Random(20240901)
    start = 0
    for _ in range(30):
        told = kill_while_writing(path, start, moments.uniform(0, 0.08))
        with Ledger.open(path) as ledger:
            assert ledger.check() == []
            units = [(unit, int(info)) for _, _, unit, info in ledger.units()]
            rows = "SELECT step / 100 AS unit, count(*) FROM metrics GROUP BY unit ORDER BY unit"
            assert ledger.query(rows)[1] == units, "a unit is there in part"
            assert [unit for unit, _ in units] == list(range(len(units)))
            assert told < len(units) <= told + 2, "a unit that was acknowledged is missing"
            start = len(units)


CREATOR = """
import sys
from tso import Ledger
for i in range(10_000):
    Ledger.create(f"{sys.argv[1]}/{i}.sqlite", {"n": str(i)}).close()
    print(i, flush=True)
"""


def test_a_store_appears_whole_or_not_at_all(tmp_path):
    moments = random.Random(7)
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with subprocess.Popen([sys.executable, "-c", CREATOR, str(folder)], stdout=subprocess.PIPE, text=True) as child:
            child.stdout.readline()
            time.sleep(moments.uniform(0, 0.1))
            child.send_signal(signal.SIGKILL)
        stores = list(folder.glob("*.sqlite"))
        for store in stores:
            with Ledger.open(store) as ledger:
                assert ledger.meta() == {"n": store.stem}
        Ledger.create(folder / f"{len(stores)}.sqlite", {}).close()
        assert list(folder.glob("*.new")) == []


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of a given size; unmounted at the end."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size):
        line = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            done = subprocess.run(line, capture_output=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command here")
        if done.returncode:
            pytest.skip("mounting a small file system needs root")
        return folder

    yield mount
    gc.collect()
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


@pytest.mark.parametrize("size", [0, 40_000, 100_000, 160_000, 200_000, 230_000])
def test_a_disk_too_small_for_a_store_holds_a_whole_one_or_none(small_disk, size):
    folder = small_disk("1m")
    path = folder / "run.sqlite"
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(2**20 - size))
    with pytest.raises(errors.StoreFull, match="no space left"), Ledger.create(path, {"seed": "17"}) as ledger:
        ledger.write(0, "prompts", 0, "", prompts(2000))
    assert not Path(f"{path}.new").exists()
    ballast.unlink()
    # A store that fitted as such, but not with its log, is there: the next process opens it.
    with Ledger.open(path) if path.exists() else Ledger.create(path, {"seed": "17"}) as ledger:
        assert ledger.meta() == {"seed": "17"}
        assert ledger.units() == []
        assert ledger.check() == []


def test_a_full_disk_takes_back_the_unit_and_the_run_goes_on(small_disk):
    folder = small_disk("2m")
    path = folder / "run.sqlite"
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(600_000))
    with Ledger.create(path, {}) as ledger:

        def write(unit):
            ledger.write(unit, "u", 0, "", metrics(*[(unit, i, "x" * 500, 1.0) for i in range(50)]))

        def fill():
            for unit in range(1000):
                write(unit)

        with pytest.raises(errors.StoreFull, match="no space left") as caught:
            fill()
        assert isinstance(caught.value, OSError)
        done = len(ledger.units())
        assert done > 0
        with pytest.raises(errors.StoreFull):
            ledger.fork(folder / "copy.sqlite")
        assert not (folder / "copy.sqlite").exists()
        assert not (folder / "copy.sqlite.new").exists()
        ballast.unlink()
        write(done)
        assert ledger.check() == []
    with Ledger.open(path) as ledger:
        assert len(ledger.units()) == done + 1
        assert ledger.query("SELECT count(*) FROM metrics")[1] == [(50 * (done + 1),)]


AS_NOBODY = """
import os, sys
from tso import Ledger, errors
if os.geteuid() == 0:
    # Now that everything is imported: root may write anywhere.
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    with Ledger.open(sys.argv[1], read_only=sys.argv[2] == "read") as ledger:
        print(len(ledger.units()))
except OSError as err:
    print(type(err).__name__, err)
"""


def as_nobody(path, how):
    done = python(AS_NOBODY, path, how)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def closed_folder():
    """A folder that an unprivileged user may enter and read; whether it may write there is set by mode."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def test_reading_needs_no_write_access(closed_folder):
    # '?', '#' and '%' mean something in the names that SQLite takes.
    path = closed_folder / "a?b#c%41.sqlite"
    ledger = Ledger.create(path, {})
    ledger.write(0, "x", 0, "", {})
    closed_folder.chmod(0o555)
    assert as_nobody(path, "read") == "1", "while it is written"
    ledger.write(0, "y", 0, "", {})
    assert as_nobody(path, "read") == "2"
    closed_folder.chmod(0o755)
    ledger.close()
    assert not Path(f"{path}-wal").exists()
    closed_folder.chmod(0o555)
    assert as_nobody(path, "read") == "2", "after it was closed"
    # As a copy of a killed run may look: a log, and no shared index beside it.
    closed_folder.chmod(0o755)
    Path(f"{path}-wal").write_bytes(b"log")
    closed_folder.chmod(0o555)
    assert as_nobody(path, "read").startswith("PermissionError")


def test_a_folder_without_write_access_refuses_a_writer(closed_folder):
    Ledger.create(closed_folder / "run.sqlite", {}).close()
    (closed_folder / "run.sqlite.lock").unlink()
    closed_folder.chmod(0o555)
    assert as_nobody(closed_folder / "run.sqlite", "write").startswith("PermissionError")


def test_a_file_that_cannot_be_written_refuses_a_writer(closed_folder):
    path = closed_folder / "run.sqlite"
    Ledger.create(path, {}).close()
    path.chmod(0o444)
    Path(f"{path}.lock").chmod(0o666)
    assert as_nobody(path, "read") == "0"
    assert as_nobody(path, "write").endswith("is not writable")


LIMITED = """
import resource, sys
from tso import Ledger, errors
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
rows = lambda unit: {"metrics": (["iteration", "step", "name", "value"], [(unit, i, "x" * 500, 1.0) for i in range(400)])}
with Ledger.create(sys.argv[1], {}) as ledger:
    ledger.write(0, "u", 0, "", rows(0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, most))
    try:
        for unit in range(1, 100):
            ledger.write(unit, "u", 0, "", rows(unit))
    except errors.StoreError as err:
        print(type(err).__name__, err)
    done = len(ledger.units())
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    ledger.write(done, "u", 0, "", rows(done))
    print(len(ledger.units()) - done, ledger.check())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the limit is of POSIX")
def test_a_file_that_may_not_grow_is_said_so_and_takes_back_the_unit(path):
    done = python(LIMITED, path)
    assert done.returncode == 0, done.stderr
    said, after = done.stdout.splitlines()
    assert said.startswith(f"StoreError the system refused to read or write {path} (")
    assert "(ulimit -f)" in said
    assert after == "1 []"
