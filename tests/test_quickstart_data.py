"""The shipped prompts: form, answers that keep to what they ask, and a representative held-out fifth."""

import re
from collections import Counter

import pytest

from tso.correct.rule import everyday, language_share
from tso.prompts import load_prompts
from tso.quickstart import prompts_path
from tso.records import Prompt, Response

PROMPTS = load_prompts(prompts_path())


def words(text: str) -> list[str]:
    return re.findall(r"\w+(?:[-'’]\w+)*", text)


def test_every_row_is_used_and_every_fifth_is_held_out() -> None:
    assert PROMPTS.rejected == ()
    assert [prompt.id for prompt in PROMPTS.prompts] == [f"quick-{number:03d}" for number in range(1, 121)]
    held = [number for number, prompt in enumerate(PROMPTS.prompts, 1) if prompt.split == "heldout"]
    assert held == list(range(5, 121, 5))


def test_held_out_rows_have_the_languages_and_units_of_the_others() -> None:
    def shares(split: str, value: str) -> float:
        rows = [prompt for prompt in PROMPTS.prompts if prompt.split == split]
        return sum(value in (p.tags["language"], p.tags["length"]["unit"]) for p in rows) / len(rows)

    for value in ("en", "es", "fr", "de", "sentences", "items", "words"):
        assert shares("heldout", value) > 0
        assert abs(shares("heldout", value) - shares("train", value)) < 0.1


def test_prompts_are_short_and_varied() -> None:
    texts = [prompt.messages[-1].content for prompt in PROMPTS.prompts]
    assert all(8 <= len(text.split()) <= 30 for text in texts)
    openings = Counter(" ".join(text.split()[:2]) for text in texts)
    assert max(openings.values()) <= 6


@pytest.mark.parametrize("prompt", PROMPTS.prompts, ids=lambda prompt: prompt.id)
def test_the_human_answer_is_one_the_rule_has_nothing_against(prompt: Prompt) -> None:
    (answer,) = prompt.human
    assert 15 <= len(words(answer)) <= 50
    score = everyday(prompt, Response(1, prompt.id, "human", answer, (), "stop", 0))
    assert score.value == 1.0, score.reason


def test_answers_are_recognised_in_their_language() -> None:
    shares = [language_share(prompt.human[0], prompt.tags["language"]) for prompt in PROMPTS.prompts]
    told = [share for share in shares if share is not None]
    assert len(told) > 110
    assert min(told) > 0.6
