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


def test_the_table_of_prior_correction(tmp_path):
    models, answers, scores = {"gemma-2b-it": 2.0, "gemma-7b-it": 7.0}, [], []
    for i in range(60):
        for j, (model, size) in enumerate(models.items()):
            text = " ".join(f"word{(i * 7 + k * k + 3 * j) % 101}" for k in range(10 + (i * (j + 3)) % 17))
            name = {"prompt_id": f"ae-{i:03}", "model": model}
            answers.append(name | {"prompt": f"question {i}", "size_b": size, "response": text})
            pref = 0.1 + 0.8 * ((i * 13 + 29 * j) % 60) / 60
            scores.append(name | {"judge": "weighted_alpaca_eval_gpt4_turbo", "pref": pref})
        for judge in ("alpaca_eval_gpt4", "claude"):
            name = {"prompt_id": f"ae-{i:03}", "model": "falcon-40b-instruct"}
            scores.append(name | {"judge": judge, "pref": float(i % 3 > 0 or (judge == "claude" and i % 7 == 0))})
    pq.write_table(pa.Table.from_pylist(answers), tmp_path / "matrix_judged.parquet")
    pq.write_table(
        pa.Table.from_pylist(answers[:0], schema=pa.Table.from_pylist(answers).schema),
        tmp_path / "matrix_qwen15.parquet",
    )
    pq.write_table(pa.Table.from_pylist(scores), tmp_path / "judgements.parquet")
    script = str(ROOT / "benchmarks" / "prior_correction.py")
    command = [sys.executable, script, "--quick", "--data", str(tmp_path), "--only", "gemma"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(("  judge ", "  noisy "))]
    shown = [row[:3] for row in rows if row[1] != "judged"]
    assert shown == [
        [judge, share, how]
        for judge in ("judge", "noisy")
        for share in ("10%", "25%", "50%", "100%")
        for how in (("budget", "random") if share != "100%" else ("all",))
    ]
    assert "gemma, judge, drop, 25%: budget" in done.stdout
    assert done.stdout.count("label error") == 8


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
