"""Verdicts out of a run and into another one: exact in every format, all or nothing, unknown pairs named by line."""

import json
import random
import shutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tso._core import Ledger
from tso.correct import recorded
from tso.corrections import FORMATS, export_file, import_file
from tso.corrections.labelstudio import CONFIG
from tso.errors import DataError, StoreConflict
from tso.store import FILE, RunStore
from tso.verdicts import standing

from tests.people import ROOT, make_run

WORDS = ("a", "b", "tie", "both_bad", "edit")
TEXTS = {
    3: ("<b>left</b>", "{{ right }}"),
    4: ("one\r\ntwo", "tab\tand \u2028 line"),
    5: ("", "not empty"),
    6: ("é", "e\u0301"),
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("corrections") / "run", 8, TEXTS)


def copy(run, name):
    folder = run.parent / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with RunStore.open_read_only(run) as store:
        store.fork(folder)
    return folder


def say(run, *rows):
    """(pair, who, word[, text[, round]])"""
    with Ledger.annotate(run / FILE) as ledger:
        for pair, who, word, *rest in rows:
            text, round = (*rest, None, 0)[:2] if len(rest) < 2 else rest
            side = "b" if word == "edit" else None
            ledger.say([(pair, who, round or 0, word, side, text, "", 1.0, None, None, None)])


def said(run):
    with RunStore.open_read_only(run) as store:
        return sorted((v.pair_id, v.annotator, v.said, v.side, v.text, v.round) for v in standing(store))


def everything(run):
    rows = [(f"p{i:02}", "Ann Élan", word, "new\ntext" if word == "edit" else None) for i, word in enumerate(WORDS)]
    more = [("p05", "bob", "b"), ("p00", "bob", "a"), ("p06", "6f6e6c79-2061-4d75-8964-656d6f6e7374", "tie")]
    say(run, *rows, *more)
    return run


@pytest.mark.parametrize("kind", FORMATS)
def test_a_round_trip_is_exact(empty, kind):
    full = everything(copy(empty, f"full-{kind}"))
    first, second = empty.parent / f"1.{kind}", empty.parent / f"2.{kind}"
    assert export_file(full, first, kind) == 8
    other = copy(empty, f"other-{kind}")
    done = import_file(other, first, kind)
    assert (done.new, done.changed, done.known) == (8, 0, 0)
    assert said(other) == said(full)
    export_file(other, second, kind)
    assert first.read_bytes() == second.read_bytes()
    again = import_file(other, first, kind)
    assert (again.new, again.changed, again.known) == (0, 0, 8)
    assert said(other) == said(full)


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_verdicts_come_through_every_format(empty, data):
    text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
    name = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
    rows = data.draw(
        st.dictionaries(st.tuples(st.integers(0, 7), name), st.tuples(st.sampled_from(WORDS), text), max_size=12)
    )
    full = copy(empty, "any")
    say(full, *((f"p{i:02}", who, word, t if word == "edit" else None) for (i, who), (word, t) in rows.items()))
    for kind in FORMATS:
        path, other = empty.parent / "any.file", copy(empty, "any-other")
        export_file(full, path, kind)
        import_file(other, path, kind)
        assert said(other) == said(full), kind


def test_rounds_reasons_and_times_stay_in_our_own_format(empty):
    run = copy(empty, "rounds")
    say(run, ("p00", "ann", "a"), ("p00", "ann", "b", None, 1))
    path = empty.parent / "rounds.jsonl"
    assert export_file(run, path) == 2
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["answer"], line["verdict"], line.get("round")) for line in lines] == [
        ("a", "keep", None),
        ("b", "flip", 1),
    ]
    assert all(line["given"].endswith("+00:00") for line in lines)
    assert export_file(run, path, "argilla") == 1  # one answer a person there: the last
    assert json.loads(path.read_text())[0]["responses"]["better"][0]["value"] in ("left", "right")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_run_that_is_given_its_own_export_stays_as_it_is(empty, kind, tmp_path):
    """Rounds, reasons and confidence too, of which Argilla and Label Studio know nothing."""
    run = copy(empty, "own")
    with Ledger.annotate(run / FILE) as ledger:
        for pair, who, round, word in (("p00", "ann", 0, "a"), ("p00", "ann", 1, "b"), ("p01", "bob", 1, "tie")):
            ledger.say([(pair, who, round, word, None, None, f"because {word}", 0.75, None, None, None)])
    before = said(run)
    export_file(run, tmp_path / "file", kind)
    found = import_file(run, tmp_path / "file", kind)
    assert (found.new, found.changed) == (0, 0)
    assert said(run) == before
    # What was changed there takes the place of what was last said, and of nothing else.
    if kind == "argilla":
        changed = (tmp_path / "file").read_text("utf-8").replace('"value": "tie"', '"value": "both_bad"')
        (tmp_path / "file").write_text(changed, "utf-8")
        assert import_file(run, tmp_path / "file", kind).changed == 1
        assert said(run) == [*before[:2], ("p01", "bob", "both_bad", None, None, 1)]


def test_what_is_exported_is_what_correct_recorded_reads(empty):
    run = everything(copy(empty, "recorded"))
    path = empty.parent / "recorded.jsonl"
    export_file(run, path)
    found = recorded.load(str(path))
    by_pair = {c.pair_id: (c.verdict, c.answer, c.text) for c in found if c.author == "Ann Élan"}
    assert by_pair == {
        "p00": ("keep", "a", None),
        "p01": ("flip", "b", None),
        "p02": ("tie", None, None),
        "p03": ("both_bad", None, None),
        "p04": ("edit", "b", "new\ntext"),
    }


def test_verdicts_that_were_taken_up_from_a_file_are_exported_too(empty):
    run = copy(empty, "taken")
    columns = ["correction_id", "pair_id", "iteration", "source", "author", "verdict", "confidence", "text", "reason"]
    rows = [(1, "p00", 1, "human", "kim", "flip", 0.8, None, "why"), (2, "p01", 1, "rule", "r", "flip", 1.0, None, "")]
    label = ["label_id", "pair_id", "iteration", "source", "chosen", "rejected", "confidence", "weight"]
    with Ledger.open(run / FILE) as ledger:
        labels = [(20, "p01", 1, "rule", 4, 3, 1.0, 1.0), (21, "p00", 1, "human", 2, 1, 0.8, 1.0)]
        ledger.write(1, "correct/train", 0, "{}", {"corrections": (columns, rows), "labels": (label, labels)})
    path, again = empty.parent / "taken.jsonl", empty.parent / "taken2.jsonl"
    assert export_file(run, path) == 1
    line = json.loads(path.read_text())
    assert line == {
        "pair_id": "p00",
        "verdict": "flip",
        "answer": "b",
        "author": "kim",
        "reason": "why",
        "confidence": 0.8,
    }
    assert import_file(run, path).known == 1
    other = copy(empty, "taken-other")
    import_file(other, path)
    export_file(other, again)
    assert path.read_bytes() == again.read_bytes()


def test_another_verdict_of_the_same_person_takes_the_place_of_the_first_and_both_stay(empty):
    run = copy(empty, "changed")
    say(run, ("p00", "ann", "a"))
    path = empty.parent / "changed.jsonl"
    path.write_text('{"pair_id": "p00", "verdict": "flip", "author": "ann"}\n', encoding="utf-8")
    done = import_file(run, path)
    assert (done.new, done.changed, done.known) == (0, 1, 0)
    assert said(run) == [("p00", "ann", "b", None, None, 0)]
    with RunStore.open_read_only(run) as store:
        assert [r[0] for r in store.query("SELECT said FROM verdicts ORDER BY verdict_id")] == ["a", "undo", "b"]


def test_the_order_in_a_file_is_blind_and_the_same_each_time(tmp_path):
    run = make_run(tmp_path / "run", 60)
    for kind in ("argilla", "labelstudio"):
        path = tmp_path / kind
        export_file(run, path, kind)
        rows = [row.get("fields") or row["data"] for row in json.loads(path.read_text())]
        assert 15 < sum(row["left"].startswith("a") for row in rows) < 45
        assert '"answer"' not in path.read_text()


# --- what is no verdict


def task(pair="p00", left="a0", right="b0", **result):
    results = [{"from_name": name, "value": value} for name, value in result.items()]
    annotation = {"completed_by": {"email": "ann@x"}, "result": results}
    return {"data": {"pair_id": pair, "left": left, "right": right}, "annotations": [annotation]}


def record(pair="p00", left="a0", right="b0", **questions):
    responses = {q: [{"value": v, "user_id": "u1"}] for q, v in questions.items()}
    return {"id": pair, "fields": {"left": left, "right": right}, "responses": responses}


@pytest.mark.parametrize(
    ("kind", "content", "says"),
    [
        ("jsonl", '{"pair_id": "p99", "verdict": "keep"}', "line 2: this run has no pair 'p99'"),
        ("jsonl", '{"verdict": "keep"}', "line 2: it names no pair"),
        ("jsonl", '{"pair_id": ["p00"], "verdict": "keep"}', "line 2: this run has no pair ['p00']"),
        ("jsonl", "{", "line 2: not JSON"),
        ("jsonl", "[1]", "line 2: not an object"),
        ("jsonl", "[" * 100_000, "line 2: not JSON"),
        ("jsonl", '{"pair_id": "p00", "verdict": "left"}', "line 2: verdict must be one of"),
        ("jsonl", '{"pair_id": "p00", "verdict": "keep", "answer": "c"}', "line 2: answer must be a or b"),
        ("jsonl", '{"pair_id": "p00", "verdict": "edit", "text": " "}', "line 2: an edit needs"),
        ("jsonl", '{"pair_id": "p00", "verdict": "edit", "text": "\\ud800"}', "line 2: not JSON in UTF-8"),
        ("jsonl", '{"pair_id": "p00", "verdict": "keep", "author": 7}', "line 2: author has to be text"),
        ("jsonl", '{"pair_id": "p00", "verdict": "keep", "confidence": 2}', "line 2: confidence must be"),
        ("jsonl", '{"pair_id": "p00", "verdict": "keep", "confidence": NaN}', "line 2: confidence must be"),
        ("jsonl", '{"pair_id": "p00", "verdict": "keep", "round": -1}', "line 2: round must be"),
        ("jsonl", '{"pair_id": "p00", "verdict": "keep", "given": "yesterday"}', "line 2: given must be"),
        ("jsonl", '{"pair_id": "p00", "verdict": "keep", "given": "2026-01-01T00:00:00"}', "line 2: given must be"),
        ("jsonl", '{"pair_id": "p01", "verdict": "flip"}', "line 2: says something else of 'imported' on pair 'p01'"),
        ("argilla", "{}", "has to be a JSON list"),
        ("argilla", [record("p99", better="left")], "record 2: this run has no pair 'p99'"),
        ("argilla", [record(better="up")], "record 2: better must be one of"),
        ("argilla", [record(better=5)], "record 2: a response to 'better' has to be text"),
        ("argilla", [record(left="other", better="left")], "record 2: its two texts are not those of the pair"),
        ("argilla", [record(edit=" ")], "record 2: an edit without a text"),
        ("argilla", [{"id": "p00", "responses": []}, {"id": "p00", "responses": 5}], "record 3: responses has to be"),
        ("argilla", [{**record(better="tie"), "metadata": {"annotators": "x"}}], "record 2: its metadata"),
        ("labelstudio", "[1]", "has to be a JSON list of objects"),
        ("labelstudio", [{"annotations": []}], "record 2: not a task"),
        ("labelstudio", [task("p99", better={"selected": "left"})], "record 2: this run has no pair 'p99'"),
        ("labelstudio", [task(better={"selected": "up"})], "record 2: selected must be left or right"),
        ("labelstudio", [task(right="other", better={"selected": "left"})], "record 2: its two texts"),
        ("labelstudio", [task(neither={"choices": ["tie", "both_bad"]})], "record 2: choices has 2 values"),
        ("labelstudio", [task(better={"selected": "left"}, neither={"choices": ["tie"]})], "chose a side, and tie as well"),
        ("labelstudio", [task(left=[], better={"selected": "left"})], "record 2: its two texts"),
        ("argilla", [record(left={}, better="left")], "record 2: its two texts are not those of the pair"),
        ("labelstudio", [task()], "record 2: an annotation of 'ann@x' says nothing"),
        ("labelstudio", [{"data": {"pair_id": "p00"}, "annotations": [5]}], "record 2: an annotation has to be an object"),
    ],
)  # fmt: skip
def test_a_file_with_one_bad_line_changes_nothing_and_the_line_is_named(empty, kind, content, says):
    run = copy(empty, "bad")
    good = {
        "jsonl": '{"pair_id": "p01", "verdict": "keep"}',
        "argilla": record("p01", "b1", "a1", better="left"),
        "labelstudio": task("p01", "b1", "a1", better={"selected": "left"}),
    }[kind]
    if kind == "jsonl":
        content = f"{good}\n{content}\n"
    elif isinstance(content, list):
        content = json.dumps([good, *content])
    path = empty.parent / "bad.file"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        import_file(run, path, kind)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert said(run) == []


def test_every_bad_line_is_counted_and_the_first_are_named(empty):
    path = empty.parent / "many.jsonl"
    path.write_text("".join(f'{{"pair_id": "x{i}", "verdict": "keep"}}\n' for i in range(9)), encoding="utf-8")
    with pytest.raises(DataError, match="line 1: .*line 5: .*'x4'; and 4 more$"):
        import_file(empty, path)


def test_what_argilla_and_label_studio_write_by_themselves(empty):
    """Users without names, cancelled annotations, fields that we do not know, texts in the other order."""
    run = copy(empty, "own")
    path = empty.parent / "own.file"
    task_ = task("p02", "b2", "a2", better={"selected": "left"})
    task_["annotations"] += [{"was_cancelled": True, "completed_by": 4, "result": []}]
    task_["annotations"] += [{"completed_by": 4, "result": [{"from_name": "neither", "value": {"choices": ["tie"]}}]}]
    task_ |= {"id": 12, "project": 1, "predictions": [], "updated_by": 4}
    path.write_text(json.dumps([task_]), encoding="utf-8")
    assert import_file(run, path, "labelstudio").new == 2
    user = "7d3c1f0a-0000-4000-8000-000000000001"
    withdrawn = [{"value": "left", "user_id": f"u{i}", "status": s} for i, s in enumerate(["draft", "discarded"])]
    better = [{"value": "right", "user_id": user, "status": "submitted"}, *withdrawn]
    responses = {"better": better, "comment": [{"value": 3, "user_id": user}]}
    fields = {"left": "b0", "right": "a0", "prompt": "x"}
    path.write_text(
        json.dumps([{"id": "p00", "status": "completed", "fields": fields, "responses": responses}]), "utf-8"
    )
    assert import_file(run, path, "argilla").new == 1
    assert said(run) == [
        ("p00", user, "a", None, None, 0),
        ("p02", "ann@x", "b", None, None, 0),
        ("p02", "labelstudio-4", "tie", None, None, 0),
    ]


@pytest.mark.parametrize("changed", [False, True])
def test_label_studio_gives_back_by_number_whom_it_was_given_by_name(empty, changed):
    run = everything(copy(empty, "numbered"))
    before, path = said(run), empty.parent / "numbered.json"
    export_file(run, path, "labelstudio")
    tasks = json.loads(path.read_text(encoding="utf-8"))
    for annotation in (a for task in tasks for a in task["annotations"]):
        annotation["completed_by"] = 7
        for result in annotation["result"] if changed else ():
            result["id"] = "Dx_aB91ISN"  # made there
    path.write_text(json.dumps(tasks[1:]), encoding="utf-8")
    done = import_file(run, path, "labelstudio")
    assert (done.new, done.changed) == ((6, 0) if changed else (0, 0))
    assert (said(run) == before) is not changed


@pytest.mark.parametrize("name", [FILE, f"{FILE}-wal", "config.yaml", "iteration-1/pairs.parquet"])
def test_an_export_writes_over_no_file_of_the_run(empty, tmp_path, name):
    run = everything(copy(empty, "spared"))
    own = run / name
    own.parent.mkdir(exist_ok=True)
    own.touch()
    (tmp_path / "link").symlink_to(own)
    before = own.read_bytes()
    for output in (own, tmp_path / "link"):
        with pytest.raises(DataError, match="is a file of the run itself"):
            export_file(run, output)
    assert own.read_bytes() == before
    for _ in range(2):
        export_file(run, run / "verdicts.jsonl")


def test_our_label_studio_interface_has_the_names_that_are_read_and_is_the_one_of_the_page_of_docs():
    assert f"```xml\n{CONFIG}```" in (ROOT / "docs" / "people.md").read_text("utf-8")
    for name in ("better", "neither", "edit", "left", "right", "prompt"):
        assert f'name="{name}"' in CONFIG


def test_a_file_that_cannot_be_read_and_pairs_that_are_not_there(empty, tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        import_file(empty, tmp_path / "none")
    (tmp_path / "latin").write_bytes(b"\xe9")
    with pytest.raises(DataError, match="cannot read"):
        import_file(empty, tmp_path / "latin")
    with pytest.raises(DataError, match="no pairs of iteration 7"):
        export_file(empty, tmp_path / "out", iteration=7)
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_named_as_it_was_given(empty, tmp_path):
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "folder", tmp_path / "nowhere" / "x"):
        with pytest.raises(OSError, match=f"{place}'$"):
            export_file(empty, place)
    assert [p.name for p in tmp_path.rglob("*")] == ["folder"]


def test_importing_works_beside_a_run_and_meets_a_change_of_the_moment_with_a_conflict(empty, monkeypatch):
    run = copy(empty, "beside")
    path = empty.parent / "beside.jsonl"
    path.write_text('{"pair_id": "p00", "verdict": "keep", "author": "ann"}\n', encoding="utf-8")
    with Ledger.open(run / FILE):
        from tso.corrections import files

        real = files.everything

        def between(store):
            before = real(store)
            say(run, ("p00", "ann", "tie"))
            return before

        monkeypatch.setattr(files, "everything", between)
        with pytest.raises(StoreConflict, match="has judged pair p00 already"):
            import_file(run, path)
    assert said(run) == [("p00", "ann", "tie", None, None, 0)]


def test_the_commands(empty, tmp_path):
    run = everything(copy(empty, "commands"))

    def tso(*words):
        line = [sys.executable, "-m", "tso", "corrections", *map(str, words)]
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)

    done = tso("export", run, "-o", tmp_path / "v.jsonl")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'v.jsonl'}: 8 verdicts\n"), done.stderr
    lines = (tmp_path / "v.jsonl").read_text(encoding="utf-8").splitlines()
    random.Random(3).shuffle(lines)
    (tmp_path / "v.jsonl").write_text("\n".join(lines), encoding="utf-8")
    done = tso("import", copy(empty, "commands2"), tmp_path / "v.jsonl")
    assert done.stdout == f"{tmp_path / 'v.jsonl'}: 8 verdicts new, 0 changed, 0 known already\n"
    (tmp_path / "v.jsonl").write_text('{"pair_id": "p00", "verdict": "tie"}', encoding="utf-8")
    third = copy(empty, "commands3")
    assert tso("import", third, tmp_path / "v.jsonl", "--author", "kim").returncode == 0
    assert said(third) == [("p00", "kim", "tie", None, None, 0)]
    done = tso("import", third, tmp_path / "nothing")
    assert (done.returncode, "cannot read" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
