"""The import rules of docs/architecture.md, read from the source with `ast`; and what both distributions must share.

A module that this file does not know has no floor yet, and the first test says so: choose one here and in
docs/architecture.md.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TSO = ROOT / "python" / "tso"
KERNELS = ROOT / "kernels" / "tso_kernels"

# Top down. A name stands for the module and, unless a longer name is listed, for everything inside it.
FLOORS = (
    ("tso.cli", "tso.__main__"),
    (
        *("tso.train", "tso.doctor", "tso.clean", "tso.clean_output", "tso.clean_report", "tso.tables", "tso.output"),
        *("tso.people", "tso.annotate", "tso.corrections"),
    ),
    ("tso.loop", "tso.start", "tso.measure"),
    ("tso.pair", "tso.correct", "tso.training", "tso.report", "tso.evaluate", "tso.export", "tso.sample.stage"),
    (
        *(
            "tso",
            "tso.sample",
            "tso.store",
            "tso.store_rows",
            "tso.config",
            "tso.settings",
            "tso.matrix",
            "tso.models",
            "tso.prompts",
            "tso.rows",
        ),
        *(
            "tso.dedup",
            "tso.index",
            "tso.diversity",
            "tso._columns",
            "tso.texts",
            "tso.progress",
            "tso.terminal",
            "tso.quickstart",
        ),
        *(
            "tso.caches",
            "tso.fields",
            "tso.sides",
            "tso.arrow_files",
            "tso.whole",
            "tso.parts",
            "tso.pieces",
            "tso.engine",
            "tso.disk_engine",
            "tso.ray_engine",
        ),
        *(
            "tso.budgets",
            "tso.grid",
            "tso.costs",
            "tso.families",
            "tso.lengths",
            "tso.judges",
            "tso.statistics",
            "tso.verdicts",
        ),
        *("tso.voices", "tso.annotators"),
    ),
    ("tso.records", "tso.errors", "tso._core"),
)
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}
STAGES = FLOORS[3]
MAY_IMPORT_STAGES = ("tso.cli", *FLOORS[2])
TRITON = "tso_kernels.triton_ops"

Edges = dict[str, set[str]]


def place(module: str) -> str:
    """The name in FLOORS that stands for `module`; KeyError where none does. `tso` stands for itself only."""
    name = module
    while name not in FLOOR_OF or (name == "tso" and module != "tso"):
        name = name.rpartition(".")[0]
        if not name:
            raise KeyError(module)
    return name


def nodes(tree: ast.AST, *, lazy: bool) -> Iterator[ast.AST]:
    """All nodes, or with lazy=False those that run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from nodes(node, lazy=lazy)


def imports(path: Path, known: set[str] = frozenset(), *, lazy: bool = True) -> set[str]:
    """Modules that a file imports: those in `known` by their full names, the rest as they are written."""
    found = set()
    for node in nodes(ast.parse(path.read_text(encoding="utf-8")), lazy=lazy):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=str(module), names=names, level=0):
                inside = {f"{module}.{alias.name}" for alias in names}
                found |= {name if name in known else module for name in inside}
            case ast.ImportFrom():
                raise AssertionError(f"{path}: relative import; write the full name")
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                found.add(name)
    return found


def modules(folder: Path) -> dict[str, Path]:
    """Full name -> file, for a package folder."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = [folder.name, *path.relative_to(folder).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def edges() -> Edges:
    """Which module of tso imports which, lazy imports included."""
    files = modules(TSO)
    known = {*files, "tso._core"}
    return {name: imports(path, known) & known for name, path in files.items()}


def broken(arrows: Edges) -> list[str]:
    """Every arrow that the rules forbid, in words."""
    wrong = []
    for source, targets in sorted(arrows.items()):
        for target in sorted(targets):
            here, there = place(source), place(target)
            if FLOOR_OF[there] < FLOOR_OF[here]:
                wrong.append(f"{source} imports {target}, which is a floor above it")
            if there in STAGES and here != there and here not in MAY_IMPORT_STAGES:
                wrong.append(f"{source} imports the stage {target}")
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as err:
        wrong.append("circle: " + " -> ".join(reversed(err.args[1])))
    return wrong


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def test_every_module_has_a_floor():
    homeless = []
    for name in modules(TSO):
        try:
            place(name)
        except KeyError:
            homeless.append(name)
    assert homeless == [], "give these a floor in tests/test_architecture.py and docs/architecture.md"


def test_no_arrow_runs_up_no_stage_imports_another_no_circle():
    assert broken(edges()) == []


@pytest.mark.parametrize(
    ("arrows", "says"),
    [
        ({"tso.store": {"tso.pair"}}, "a floor above"),
        ({"tso.records": {"tso.store"}}, "a floor above"),
        ({"tso.sample.transformers": {"tso.sample.stage"}}, "a floor above"),
        ({"tso.pair": {"tso.correct.rule"}}, "imports the stage"),
        ({"tso.evaluate.heldout": {"tso.sample.stage"}}, "imports the stage"),
        ({"tso.report": {"tso.training.trainer"}}, "imports the stage"),
        ({"tso.train": {"tso.pair"}}, "imports the stage"),
        ({"tso.dedup": {"tso"}, "tso": {"tso.dedup"}}, "circle"),
    ],
)
def test_the_rules_notice(arrows, says):
    assert any(says in line for line in broken(arrows))


def test_the_rules_let_the_line_pass():
    good = {"tso.loop": {"tso.pair", "tso.start"}, "tso.training.stage": {"tso.sample.base", "tso.training.collate"}}
    assert broken(good) == []


def test_the_lowest_floor_needs_the_standard_library_only():
    assert {n: roots(imports(TSO / f"{n}.py")) for n in ("records", "errors")} == {"records": set(), "errors": set()}
    assert edges()["tso.config"] == set()
    assert edges()["tso.settings"] <= {"tso.config", "tso.errors", "tso.grid"}


def test_only_the_trainer_imports_the_kernels():
    users = {name for name, path in modules(TSO).items() if "tso_kernels" in roots(imports(path))}
    assert users == {"tso.training.trainer"}


def test_the_kernels_need_torch_and_triton_only_and_triton_lazily():
    files = modules(KERNELS)
    kernels = {name for name in files if name.startswith(TRITON)}
    assert kernels
    for name, path in files.items():
        host = {path.stem} if path.parent.name == "integrations" else set()  # the library it is an integration for
        assert roots(imports(path)) <= {"torch", "tso_kernels", "triton"} | host, name
        at_once = imports(path, set(files), lazy=False)
        assert name in kernels or not ({"triton"} & roots(at_once) or at_once & kernels), (
            f"{name}: import it where it is used"
        )
        within = {m for m in imports(path, set(files)) if m.startswith("tso_kernels.integrations.")}
        assert not within or path.parent.name == "integrations", name


def test_the_rust_core_does_not_know_python():
    core = ROOT / "rust" / "core"
    mentions = [
        p.name for p in [core / "Cargo.toml", *core.glob("src/**/*.rs")] if "pyo3" in p.read_text("utf-8").lower()
    ]
    assert mentions == []


def test_one_version_everywhere():
    main = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    kernels = tomllib.loads((ROOT / "kernels" / "pyproject.toml").read_text("utf-8"))["project"]
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text("utf-8"))["workspace"]["package"]
    written = re.search(r'^__version__ = "(.+)"$', (TSO / "__init__.py").read_text("utf-8"), re.MULTILINE)
    assert written
    assert {main["version"], kernels["version"], cargo["version"], written[1]} == {main["version"]}
    pins = [d for d in main["dependencies"] if re.split(r"[=<>~! \[;]", d)[0] == "tso-kernels"]
    assert pins == [f"tso-kernels=={main['version']}"]


def test_the_kernels_folder_is_not_a_package():
    assert not (ROOT / "kernels" / "__init__.py").exists()


def test_import_tso_loads_neither_torch_nor_transformers():
    code = "import sys, tso; print(*sorted({'torch', 'transformers', 'triton'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr[-2000:]
