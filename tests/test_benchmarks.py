"""The benchmarks run; what they measure here means nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[1]


def test_the_table_of_the_kernels(tmp_path):
    pytest.importorskip("tso_kernels", reason="needs torch and tso-kernels")
    command = [sys.executable, str(ROOT / "benchmarks" / "kernels.py"), "--quick", "--shapes-only"]
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {line[:38].strip(): line[38:].split() for line in done.stdout.splitlines()}
    for name in ("bare products", "tso_kernels", "tso_kernels, least memory", "eager"):
        assert len(rows[name]) == 7
    assert float(rows["tso_kernels"][-1]) < 1e-5
    assert "failed on this shape" not in done.stdout


def test_the_script_for_a_gpu_says_so_where_there_is_none(tmp_path):
    pytest.importorskip("torch", reason="needs torch")
    env = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "PATH": os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"])),
    }
    command = [str(ROOT / "benchmarks" / "kernels_gpu.sh")]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "no GPU that torch sees; run python benchmarks/kernels.py" in done.stderr


def test_the_table_of_the_ledger(tmp_path):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peak memory is read from Linux's /proc")
    command = [sys.executable, str(ROOT / "benchmarks" / "ledger.py"), "--quick", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line[:22].strip() for line in done.stdout.splitlines() if len(line) > 70]
    for name in ("plan tso", "walk tso", "plan sqlite3", "record tso", "record tso, shared", "record sqlite3"):
        assert name in rows
    assert not list(tmp_path.iterdir())


def test_the_table_of_diversity(tmp_path):
    pytest.importorskip("tokenizers", reason="needs tokenizers")
    pytest.importorskip("nltk", reason="needs nltk")
    answers = [" ".join(f"word{(i * j) % 37}" for j in range(i % 50)) for i in range(120)]
    for name in ("matrix_judged", "matrix_qwen15"):
        pq.write_table(pa.table({"response": answers}), tmp_path / f"{name}.parquet")
    command = [sys.executable, str(ROOT / "benchmarks" / "diversity.py"), "--quick", "--data", str(tmp_path)]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {line[:58].strip(): line[58:].split() for line in done.stdout.splitlines()}
    for name in ("tso", "nltk", "Python sets"):
        assert len(rows[name]) == 4
        assert float(rows[name][-1]) < 1e-6
    assert sum(name.startswith("1,000 groups of 8") for name in rows) == 2
    assert "equal within 1e-06" in done.stdout
