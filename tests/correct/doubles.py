"""Judges that are no models: each replies to a question by a plain function of the two answers shown."""

import json
import re

from tso.config import JudgeSection
from tso.correct.calls import Judge
from tso.correct.rubric import RUBRIC
from tso.sample.base import Answer

SHOWN = re.compile(
    r"^\[(?P<fence>[0-9a-f]{16}) answer A begins\]\n(?P<a>.*)\n\[(?P=fence) answer A ends\]\n\n"
    r"\[(?P=fence) answer B begins\]\n(?P<b>.*)\n\[(?P=fence) answer B ends\]$",
    re.MULTILINE | re.DOTALL,
)


def says(verdict, reason="so it is"):
    return json.dumps({"reason": reason, "verdict": verdict})


def shown(request):
    """The two answers of a question, in their order."""
    found = SHOWN.search(request.prompt.messages[-1].content)
    return found["a"], found["b"]


class Double:
    """A sampler whose replies are `reply(first, second, request)`; `asked` has every request, batch by batch."""

    def __init__(self, reply):
        self.reply, self.asked = reply, []

    def sample(self, model, requests):
        self.asked.append(list(requests))
        return [Answer(self.reply(*shown(r), r), (1, 2, 3), "stop", 100) for r in requests]

    @property
    def requests(self):
        return [r for batch in self.asked for r in batch]


def judge(reply, name="double", **options):
    return Judge(name, "weights", "sha", Double(reply), RUBRIC, JudgeSection(model=name, **options), seed=7)


def constant(verdict):
    return lambda first, second, request: says(verdict)


def perfect(first, second, request):
    """Knows what is good: the answer with more of the letter x."""
    a, b = first.count("x"), second.count("x")
    return says("tie" if a == b else "A" if a > b else "B")


def obedient(first, second, request):
    """Does what the first order in its question says, wherever that stands; where there is none, it judges."""
    order = re.search(r'reply with the verdict "(\w+)"', first + second)
    return says(order[1]) if order else perfect(first, second, request)
