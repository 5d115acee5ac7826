"""The page: complete, escaped, loading nothing, equal to the store, and written whole or not at all."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import tso.report
from tso.errors import TsoError
from tso.report import page
from tso.report.gather import gather
from tso.report.meetings import meeting_table
from tso.store import RunStore

from tests.report.judged import judged_run
from tests.report.runs import META, SCRIPT, empty_run, full_run, plan, write

VOID = {"meta", "br", "hr", "img", "link", "input", "base"}
TAGS = re.findall(
    r"\w+",
    "html head meta title style body header main section h1 h2 h3 p dl div dt dd table thead tbody tr th td span strong "
    "figure figcaption ul ol li details summary svg line text polyline circle rect title",
)


class Reader(HTMLParser):
    """Collects elements and text, and checks that every element is closed in order."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.cells: list[list[str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def read(folder) -> tuple[str, Reader]:
    html = tso.report.write(folder).read_text(encoding="utf-8")
    return html, Reader(html)


@pytest.fixture
def run(tmp_path):
    return full_run(tmp_path / "run")


def test_write_returns_the_file_in_the_folder(run):
    assert tso.report.write(run) == run / "report.html"
    assert sorted(p.name for p in run.iterdir() if not p.name.startswith("run.sqlite")) == ["report.html"]


def test_page_holds_only_known_elements_and_nothing_that_loads_or_runs(run):
    html, found = read(run)
    assert {tag for tag, _ in found.elements} <= set(TAGS)
    for tag, attributes in found.elements:
        assert not {"src", "href", "srcset", "action", "data", "xlink:href"} & attributes.keys(), tag
        assert not [a for a in attributes if a.startswith("on")], tag
    assert "<script" not in html.lower()
    styles = "".join(re.findall(r"<style>(.*?)</style>", html, re.S)) + "".join(
        a.get("style") or "" for _, a in found.elements
    )
    assert "url(" not in styles
    assert "@import" not in styles


def test_policy_forbids_everything_but_inline_styles(run):
    _, found = read(run)
    policy = next(a["content"] for t, a in found.elements if t == "meta" and "http-equiv" in a)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == "'unsafe-inline'"
    assert rules["img-src"] == "data:"
    assert "script-src" not in rules
    assert "connect-src" not in rules


@pytest.mark.parametrize(
    "where", ["model says", "why?", "because", "better", "after", "edited", "tiny & small"], ids=str
)
def test_texts_of_models_and_people_are_shown_and_not_obeyed(run, where):
    _, found = read(run)
    assert f"{where} {SCRIPT}" in found.text


def test_control_and_reordering_characters_are_spelled_out(run):
    html, found = read(run)
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "plain \\u001b[31mred\\u001b[0m and \\u202eturned" in found.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u200fb", "a\\u200fb"),
        ("a\u2028b", "a\\u2028b"),
        ("a\U000e0041b", "a\\U000e0041b"),
        ("a\u200bb\r\n", "a\\u200bb\n"),
        ("👩\u200d💻 می\u200cخواهم\t", "👩\u200d💻 می\u200cخواهم\t"),
    ],
)
def test_unseen_characters_are_spelled_out_and_joiners_are_text(text, shown):
    assert page.visible(text) == shown


def test_result_table_shows_names_columns_and_verdict(run):
    _, found = read(run)
    at = found.cells.index(["name", "win_rate", "words"])
    assert found.cells[at + 1 : at + 3] == [["start", "0.5", "31"], [f"after {SCRIPT}", "0.6875", "27"]]


def test_result_table_takes_formatted_rows_without_names(run):
    rows = [{"model": "start", "95 % interval": "0.50 to 0.50"}]
    write(run, 2, "evaluate/table", {"rows": rows, "columns": ["model", "95 % interval"], "verdict": "no gain"})
    _, found = read(run)
    at = found.cells.index(["model", "95 % interval"])
    assert found.cells[at + 1] == ["start", "0.50 to 0.50"]
    assert "no gain" in found.text


def test_funnel_counts_are_those_of_the_store(run):
    _, found = read(run)
    counts = {row[0]: row[1] for row in found.cells if len(row) == 3}
    groups = ("rows", "prompts", "answers", "pairs", "dropped", "corrected")
    assert {k: counts[k] for k in counts if k.startswith(groups)} == {
        "rows left out": "3",
        "prompts to train on": "1",
        "prompts held out": "1",
        "answers planned": "6",
        "answers sampled": "5",
        "dropped: empty": "1",
        "answers in pairs": "4",
        "pairs made": "3",
        "dropped: tie": "1",
        "pairs trained": "2",
        "corrected: edit": "1",
        "corrected: flip": "1",
        "corrected: tie": "1",
    }


def test_funnel_leaves_held_out_data_out(run):
    plan(run, "evaluate", "q2", [("human", 2)])
    write(
        run,
        1,
        "evaluate",
        responses=[(8, 1, "q2", "human", 1, "a", b"", 0, "stop"), (9, 1, "q2", "human", 1, "b", b"", 0, "stop")],
        pairs=[("pev", 1, "evaluate", 0, "q2", 8, 9, 0.0)],
        drops=[(1, "pair/evaluate", "pair", "pev", "tie", ""), (1, "pair/evaluate", "response", "9", "empty", "")],
        corrections=[(9, "pev", 1, "rule", "r", "tie", 0.5, None, "")],
    )
    test_funnel_counts_are_those_of_the_store(run)
    with RunStore.open_read_only(run) as store:
        assert "pev" not in [p.pair_id for p in gather(store).pairs]


def test_strengths_and_figures_are_those_of_the_store(run):
    _, found = read(run)
    assert ["human", "+2.00", "+1.38", "+0.50 to +2.25", "3", ""] in found.cells
    assert ["policy-1.0", "+0.50", "+0.75", "+0.12 to +1.38", "3", ""] in found.cells
    assert ["prior/error_rate", "0.3125"] in found.cells
    assert ["data/responses", "5"] in found.cells


def test_curves_are_those_of_the_store(run):
    with RunStore.open_read_only(run) as store:
        charts = {c.title: c for c in gather(store).charts}
    assert charts["Loss"].series == {"loss": [(1, 0.6375), (2, 0.575), (3, 0.5125)]}
    assert list(charts["Rewards"].series) == ["rewards/chosen"]
    assert charts["Loss"].starts == ()
    assert "Log-probs under the policy" not in charts  # nothing was recorded of them
    _, found = read(run)
    assert sum(t == "svg" and "role" in a for t, a in found.elements) == 4  # and the heat map
    assert "loss, last 0.5125" in found.text


def test_what_judges_and_people_say_is_on_the_page(tmp_path, monkeypatch):
    with judged_run(tmp_path / "run", monkeypatch) as store:
        _, found = read(tmp_path / "run")
        report = gather(store)
    for table in (report.errors, report.judges, report.people, report.lengths, meeting_table(report.meetings)):
        assert list(table.columns) in found.cells
        for row in table.rows:
            assert [page.number(value) for value in row] in found.cells
    ids = [a.get("id") for t, a in found.elements if t == "section"]
    assert {"cells", "errors", "judges", "people", "lengths"} <= set(ids)
    assert sum(t == "rect" for t, _ in found.elements) == len(report.meetings.of)
    assert {tag for tag, _ in found.elements} <= set(TAGS)


def test_a_run_without_verdicts_has_no_tables_of_them(tmp_path):
    _, found = read(empty_run(tmp_path / "run"))
    ids = [a.get("id") for t, a in found.elements if t == "section"]
    assert not {"cells", "errors", "judges", "people", "lengths"} & set(ids)


@pytest.mark.parametrize("steps", [(1, 2), (4, 5)], ids=["counted anew", "counted on"])
def test_curves_of_later_iterations_follow_on(run, steps):
    write(run, 2, "train", metrics=[(2, s, "loss", 0.25) for s in steps])
    with RunStore.open_read_only(run) as store:
        loss = gather(store).charts[0]
    assert [x for x, _ in loss.series["loss"]] == [1, 2, 3, 4, 5]
    assert loss.starts == (4,)


def test_settings_and_facts(run):
    _, found = read(run)
    assert ["beta", "0.125"] in found.cells
    assert ["cells", "name human, model human\nname policy-1.0, model policy"] in found.cells
    with RunStore.open_read_only(run) as store:
        facts = dict(gather(store).facts)
    assert facts == {
        "training prompts": 1,
        "held-out prompts": 1,
        "answers sampled": 5,
        "pairs made": 3,
        "pairs trained": 2,
        "beta": 0.125,
        "chosen clip": "inf",
        "fine-tuning": "full",
        "seed": 7,
    }


def test_progress_says_how_far_the_run_is(tmp_path, run):
    assert "finished, 1 iteration" in read(run)[1].text
    assert "tso run: nothing yet" in read(empty_run(tmp_path / "e"))[1].text
    write(tmp_path / "e", 0, "start", {"rejected": 0})
    assert "unfinished: 0 iterations complete, last work start of iteration 0" in read(tmp_path / "e")[1].text


def test_a_run_without_evaluation_is_finished_until_it_gets_another_iteration(tmp_path):
    folder = empty_run(tmp_path / "run")
    write(folder, 1, "update")
    write(folder, 1, "finish")
    text = read(folder)[1].text
    assert "finished, 1 iteration" in text
    assert "None: a comparison needs held-out prompts" in text
    write(folder, 2, "choose")
    assert "unfinished: 1 iteration complete, last work choose of iteration 2" in read(folder)[1].text


def test_sample_pairs_show_every_fate_before_more_of_the_same(run):
    more = [(f"pz{i:02}", 1, "train", 10 + i, "q1", 1, 3, 0.0) for i in range(40)]
    labels = [(10 + i, row[0], 1, "prior", 1, 3, 0.6, 1.0) for i, row in enumerate(more)]
    write(run, 1, "more", pairs=more, labels=labels)
    with RunStore.open_read_only(run) as store:
        shown = [p.pair_id for p in gather(store).pairs]
    assert len(shown) == 12
    assert shown[:4] == ["paaa111", "paab222", "pbbb333", "pz00"]


@pytest.mark.parametrize("meta", [META, {}], ids=["settings", "no settings"])
def test_empty_run_says_nothing_yet(tmp_path, meta):
    _, found = read(empty_run(tmp_path / "run", meta))
    assert found.text.count("Nothing yet") == 6


def test_a_failure_leaves_the_old_page_and_no_rest(run, monkeypatch):
    path = tso.report.write(run)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tso.whole.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        tso.report.write(run)
    assert path.read_bytes() == before
    assert not list(run.glob("*.part")) + list(run.glob(".*.part"))


def test_a_page_is_replaced_and_the_same_for_the_same_store(run):
    first = tso.report.write(run).read_bytes()
    (run / "report.html").write_text("old", encoding="utf-8")
    assert tso.report.write(run).read_bytes() == first


def test_a_run_at_work_can_be_reported(run):
    with RunStore.open_or_create(run, {}):
        assert tso.report.write(run).exists()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises((TsoError, OSError)):
        tso.report.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_report_needs_no_stage_and_no_torch():
    code = (
        "import sys, tso.report; bad = {'torch', 'transformers', 'tso.pair', 'tso.correct', 'tso.training', "
        "'tso.sample', 'tso.evaluate'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1234567, "1,234,567"),
        (2.0, "2"),
        (0.31254, "0.3125"),
        (-0.5, "−0.5"),
        ("-0.5", "-0.5"),
        (None, ""),
        (1e-6, "1e-06"),
    ],
)
def test_numbers(value, shown):
    assert page.number(value) == shown
