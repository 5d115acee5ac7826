"""The page in a real browser, by keyboard: ten pairs, an undo, an edit, reloads, two people, and texts full of markup."""

import re
import shutil

import pytest
from tso.store import RunStore

from tests.people import Server, make_run

pytest.importorskip("uvicorn", reason="the extra annotate is not installed here")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed here")
BROWSER = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "chrome"])), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here (apt-get install chromium)")

HOSTILE = (
    "<script>window.hacked = 1; document.title = 'hacked'</script><img src=x onerror=\"window.hacked = 2\">"
    "<svg onload='window.hacked = 3'></svg></div></section><style>body { display: none }</style>"
    "<a href='javascript:window.hacked = 4'>x</a> {{ 7*7 }} ${7*7} &lt;b&gt; ]]> --> \u202e desrever"
)


@pytest.fixture(scope="module")
def browser():
    # A test may run as root in a container, where Chromium's own sandbox cannot start.
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield found
        found.close()


@pytest.fixture
def context(browser):
    opened = browser.new_context(viewport={"width": 1280, "height": 800})
    yield opened
    opened.close()


def open_page(context, server, who):
    page = context.new_page()
    page.faults = []
    page.on("pageerror", lambda err: page.faults.append(str(err)))
    page.on("console", lambda said: said.type == "error" and page.faults.append(said.text))
    page.goto(f"{server.address}?annotator={who}")
    ready(page)
    return page


def ready(page):
    page.wait_for_selector("body[aria-busy=false]")


def press(page, key):
    page.keyboard.press(key)
    page.wait_for_selector("body[aria-busy=false]")


def text(page, side):
    return page.text_content(f'.answer[data-side="{side}"] .text')


def question(page):
    return page.text_content("#prompt .message")


def standing(run):
    with RunStore.open_read_only(run) as store:
        return store.query("SELECT pair_id, annotator, said, side, text FROM standing ORDER BY verdict_id")


def count(page):
    return page.text_content("#count")


def test_ten_pairs_by_keyboard_one_undone_one_edited_with_reloads_between(context, tmp_path):
    run = make_run(tmp_path / "run", 10)
    keys = ["1", "2", "ArrowLeft", "ArrowRight", "3", "4", "s", "1", "q", "2"]
    expected = []
    with Server(run, "--repeat", "0") as server:
        page = open_page(context, server, "ann")
        for i, key in enumerate(keys):
            left, right = text(page, "left"), text(page, "right")
            said = {"1": left[0], "ArrowLeft": left[0], "2": right[0], "ArrowRight": right[0]}.get(key)
            said = said or {"3": "tie", "4": "both_bad", "s": "skip", "q": "edit"}[key]
            row = (f"p{i:02}", "ann", said, None, None)
            if key == "q":
                page.keyboard.press("q")
                page.wait_for_selector("textarea:focus")
                page.keyboard.press("Control+a")
                page.keyboard.type("my own answer 1234")  # digits are keys elsewhere
                page.keyboard.press("Enter")
                page.keyboard.type("on two lines")
                press(page, "Control+Enter")
                row = (f"p{i:02}", "ann", "edit", left[0], "my own answer 1234\non two lines")
            else:
                press(page, key)
            expected.append(row)
            assert standing(run) == expected  # stored before the page goes on
            if i in (2, 5):
                before = question(page), text(page, "left"), count(page)
                page.reload()
                ready(page)
                assert (question(page), text(page, "left"), count(page)) == before
            if i == 4:
                press(page, "u")
                assert standing(run) == expected[:-1]
                assert question(page) == "userquestion 4"
                page.reload()
                ready(page)
                assert question(page) == "userquestion 4"
                press(page, "3")
                assert standing(run) == expected
        assert page.is_visible("#finished")
        assert count(page) == "9 judged, 0 left, 1 skipped"
        press(page, "u")  # also from the end
        assert question(page) == "userquestion 9"
        assert page.faults == []


def test_a_draft_survives_a_reload_and_an_open_edit_is_not_thrown_away(context, tmp_path):
    run = make_run(tmp_path / "run", 2)
    with Server(run) as server:
        page = open_page(context, server, "ann")
        page.keyboard.press("e")
        page.keyboard.type("half an ")
        page.click('button[data-said="left"]')
        assert "An edit is open" in page.text_content("#status")
        page.reload()
        ready(page)
        assert "half an " in page.input_value('.answer[data-side="right"] textarea')
        page.keyboard.press("Escape")
        assert page.is_hidden('.answer[data-side="right"] textarea')
        page.keyboard.press("e")
        page.keyboard.press("Control+Enter")
        assert "Nothing was changed" in page.text_content("#status")
        assert standing(run) == []


def test_two_people_at_once_never_see_one_pair(browser, tmp_path):
    run = make_run(tmp_path / "run", 9)
    with Server(run, "--repeat", "0") as server:
        contexts = [browser.new_context() for _ in range(2)]
        pages = [open_page(c, server, who) for c, who in zip(contexts, ["ann", "bob"], strict=True)]
        seen = {0: [], 1: []}
        for turn in range(9):
            who = turn % 2
            questions = [question(page) for page in pages if page.is_visible("#pair")]
            assert len(set(questions)) == len(questions)
            seen[who].append(question(pages[who]))
            press(pages[who], "1")
        assert not set(seen[0]) & set(seen[1])
        assert len(standing(run)) == 9
        assert {row[1] for row in standing(run)} == {"ann", "bob"}
        for opened in contexts:
            opened.close()


def test_markup_is_shown_as_text_and_runs_nothing(context, tmp_path):
    run = make_run(tmp_path / "run", 1, {0: (HOSTILE, HOSTILE + "2")})
    requests = []
    with Server(run) as server:
        context.on("request", lambda request: requests.append(request.url))
        page = open_page(context, server, "ann")
        assert {text(page, "left"), text(page, "right")} == {HOSTILE, HOSTILE + "2"}
        assert page.eval_on_selector_all(".answer .text *", "found => found.length") == 0
        page.wait_for_timeout(200)
        assert page.evaluate("window.hacked") is None
        assert page.title() == "tso annotate"
        assert page.is_visible("#pair")
        page.keyboard.press("q")
        assert page.input_value('.answer[data-side="left"] textarea') == text(page, "left")
        page.keyboard.type(HOSTILE)
        press(page, "Control+Enter")
        page.goto(f"{server.address}?annotator={HOSTILE[:60]}")  # a name full of markup
        ready(page)
        assert page.text_content("#who") == HOSTILE[:60]
        assert page.evaluate("window.hacked") is None
    assert standing(run)[0][2] == "edit"
    assert all(url.startswith(server.address) for url in requests)
    assert [fault for fault in page.faults if "favicon" not in fault] == []


def test_the_name_is_asked_for_where_the_address_has_none(context, tmp_path):
    with Server(make_run(tmp_path / "run", 1)) as server:
        page = context.new_page()
        page.goto(server.address)
        page.keyboard.type("Ann Élan")  # the field has the focus
        page.keyboard.press("Enter")
        ready(page)
        assert page.text_content("#who") == "Ann Élan"


def test_wide_and_narrow_light_and_dark(browser, tmp_path):
    with Server(make_run(tmp_path / "run", 1, {0: ("long " * 300, "x" * 3000)})) as server:
        for scheme in ("light", "dark"):
            context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
            page = open_page(context, server, "ann")
            box = {side: page.locator(f'.answer[data-side="{side}"]').bounding_box() for side in ("left", "right")}
            assert box["left"]["y"] == box["right"]["y"]
            assert box["left"]["x"] + box["left"]["width"] <= box["right"]["x"]
            colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 384) == (scheme == "dark")
            page.set_viewport_size({"width": 400, "height": 800})
            box = {side: page.locator(f'.answer[data-side="{side}"]').bounding_box() for side in ("left", "right")}
            assert box["left"]["y"] + box["left"]["height"] <= box["right"]["y"]
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            context.close()


def test_every_verdict_can_be_given_without_a_mouse_and_has_a_name(context, tmp_path):
    with Server(make_run(tmp_path / "run", 1)) as server:
        page = open_page(context, server, "ann")
        names = [page.locator(f'[data-said="{said}"]') for said in ("left", "right", "tie", "both_bad", "skip")]
        for button in names:
            assert button.get_attribute("aria-keyshortcuts")
            assert button.locator("kbd").count() >= 1
        page.locator('[data-said="tie"]').focus()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        for role, name in (("region", "Left answer"), ("region", "Right answer"), ("navigation", "Verdicts")):
            assert page.get_by_role(role, name=name).count() >= 1


def test_a_server_that_comes_back_gets_the_verdict_once(context, tmp_path):
    run = make_run(tmp_path / "run", 2)
    with Server(run) as server:
        page = open_page(context, server, "ann")
        times = []

        def fail_first(route):
            times.append(route.request.post_data)
            if len(times) == 1:
                route.fetch()  # it arrives, and its answer is lost
                route.abort()
            else:
                route.continue_()

        page.route("**/verdict", fail_first)
        page.keyboard.press("1")
        sync_api.expect(page.locator("#status")).to_contain_text("Saved", timeout=20_000)
        assert len(times) == 2
        assert times[0] == times[1]
        assert len(standing(run)) == 1
        assert question(page) == "userquestion 1"
