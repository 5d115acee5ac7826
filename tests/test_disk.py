"""--engine disk under a limit of memory that the local engine does not get by with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS, LENGTH, COPIES = 25_000, 400, 4  # 160 MB of token ids

# Pieces as small against the input as they are against one that is larger than memory. The limit counts from what the
# process has once everything is imported; Arrow's own allocator would reserve a gigabyte that it does not use.
LIMITED = """
import re, resource, sys
from pathlib import Path
import numpy, pyarrow, pyarrow.parquet
from tso import cli, disk_engine, engine, output, pieces, tables
from tso.parts import compare, search
pieces.PIECE, compare.TOKENS, search.PARTITION, output._BYTES = 1 << 20, 1 << 18, 1 << 18, 1 << 20
held = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (held + (200 << 20), held + (200 << 20)))
sys.exit(cli.main(["dedup", "in.parquet", "-o", "out.parquet", "--overwrite", *sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every text COPIES times, one token of it changed each time."""
    folder = tmp_path_factory.mktemp("disk")
    rng = np.random.default_rng(0)
    texts = rng.integers(0, 32_000, (ROWS, LENGTH), dtype=np.int32)
    offsets = np.arange(0, ROWS * LENGTH + 1, LENGTH)
    with pq.ParquetWriter(folder / "in.parquet", pa.schema({"text": pa.large_list(pa.int32())})) as file:
        for _ in range(COPIES):
            copy = texts.copy()
            copy[np.arange(ROWS), rng.integers(0, LENGTH, ROWS)] = 0
            column = pa.LargeListArray.from_arrays(offsets, copy.reshape(-1))
            file.write_table(pa.table({"text": column}), row_group_size=5_000)
    return folder


def limited(folder, *words):
    env = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
    command = [sys.executable, "-c", LIMITED, *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="limits of memory as Linux sets them")
def test_more_than_memory_goes_by_way_of_the_disk_and_not_otherwise(folder):
    assert limited(folder).returncode != 0
    assert not (folder / "out.parquet").exists()
    found = limited(folder, "--engine", "disk", "--work-dir", ".")
    assert found.returncode == 0, found.stderr
    assert pq.read_metadata(folder / "out.parquet").num_rows == ROWS
    assert pq.read_metadata(folder / "out.removed.parquet").num_rows == ROWS * (COPIES - 1)
    assert sorted(p.name for p in folder.iterdir()) == ["in.parquet", "out.parquet", "out.removed.parquet"]
