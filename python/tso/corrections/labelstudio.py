"""Label Studio: the JSON list of tasks that it imports and exports, a task a pair, with CONFIG as labelling interface.

A choice of `tie` or `both_bad` is that verdict; a text in `edit` makes it an edit of the side that was selected. Label
Studio takes people by e-mail: a name stands where an address is expected, and has to be one to be imported there. It
gives them by number, so an annotation that comes back as it went is known by what it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tso.corrections.matter import Format, Line, Shown, records, unknown, written
from tso.errors import DataError
from tso.verdicts import OTHER, Verdict, person

CONFIG = """\
<View>
  <Paragraphs name="prompt" value="$prompt" nameKey="role" textKey="content" layout="dialogue"/>
  <Pairwise name="better" toName="left,right"/>
  <View style="display: flex; gap: 1em">
    <Text name="left" value="$left"/>
    <Text name="right" value="$right"/>
  </View>
  <Choices name="neither" toName="left"><Choice value="tie"/><Choice value="both_bad"/></Choices>
  <TextArea name="edit" toName="left" maxSubmissions="1" rows="8"/>
</View>
"""
NEITHER = ("tie", "both_bad")


def write(pairs: Sequence[Shown]) -> str:
    return written([_task(pair) for pair in pairs])


def _task(shown: Shown) -> dict[str, Any]:
    data = {
        "pair_id": shown.pair.id,
        "prompt": [{"role": m.role, "content": m.content} for m in shown.messages],
        "left": shown.left,
        "right": shown.right,
    }
    annotations = [
        {"completed_by": {"email": v.annotator}, "result": _results(shown, v), "was_cancelled": False}
        for v in shown.latest
    ]
    return {"data": data, "annotations": annotations, "predictions": []}


def _results(shown: Shown, verdict: Verdict) -> list[dict[str, Any]]:
    found = []
    if verdict.answer in OTHER:
        found.append(_result("better", "left", "pairwise", {"selected": shown.side_of(verdict.answer)}))
    if verdict.said in NEITHER:
        found.append(_result("neither", "left", "choices", {"choices": [verdict.said]}))
    if verdict.text is not None:
        found.append(_result("edit", "left", "textarea", {"text": [verdict.text]}))
    return found


def _result(name: str, to: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "from_name": name, "to_name": to, "type": kind, "value": value}


def read(text: str, pairs: Mapping[str, Shown], author: str) -> tuple[list[Line], list[str]]:
    found, wrong = [], []
    for where, task in records(text):
        try:
            found += [Line(where, verdict) for verdict in _verdicts(task, pairs, author)]
        except DataError as err:
            wrong.append(f"{where}: {err}")
    return found, wrong


def _verdicts(task: Mapping[str, Any], pairs: Mapping[str, Shown], author: str) -> list[Verdict]:
    data, annotations = task.get("data"), task.get("annotations") or []
    if not isinstance(data, dict) or not isinstance(annotations, list):
        raise DataError("not a task: it needs data, and a list of annotations")
    why = unknown(data.get("pair_id"), pairs)
    if why:
        raise DataError(why)
    if not all(isinstance(a, dict) and isinstance(a.get("result", []), list) for a in annotations):
        raise DataError("an annotation has to be an object with a list of results")
    kept = [a for a in annotations if not a.get("was_cancelled")]  # cancelled: skipped there
    shown = pairs[data["pair_id"]]
    return [_as_it_went(shown, annotation) or _verdict(shown, data, annotation, author) for annotation in kept]


def _as_it_went(shown: Shown, annotation: Mapping[str, Any]) -> Verdict | None:
    """The verdict of the pair that was exported as this annotation, where the file tells its author by number only."""
    if not isinstance(annotation.get("completed_by"), int):
        return None
    came = annotation.get("result", [])
    for verdict in shown.latest:
        went = _results(shown, verdict)
        alike = len(came) == len(went) and all(isinstance(result, dict) for result in came)
        if alike and all(w.items() <= c.items() for w, c in zip(went, came, strict=True)):
            return Verdict(shown.pair.id, verdict.annotator, verdict.said, verdict.side, verdict.text)
    return None


def _verdict(shown: Shown, data: Mapping[str, Any], annotation: Mapping[str, Any], author: str) -> Verdict:
    results = [r for r in annotation.get("result", []) if isinstance(r, dict) and isinstance(r.get("from_name"), str)]
    values = {r["from_name"]: r.get("value") for r in results}
    side = _one(values.get("better"), "selected", ("left", "right"))
    neither = _one(values.get("neither"), "choices", NEITHER)
    text = _one(values.get("edit"), "text", None)
    name = person(_author(annotation.get("completed_by"), author))
    if side is not None and neither is not None:
        raise DataError(f"{name!r} chose a side, and {neither} as well")
    answer = None if side is None else shown.answer_at(side, data.get("left"), data.get("right"))
    if text is not None and text.strip():
        return Verdict(shown.pair.id, name, "edit", answer, text)
    said = answer or neither
    if said is None:
        raise DataError(f"an annotation of {name!r} says nothing of better, neither or edit")
    return Verdict(shown.pair.id, name, said)


def _one(value: Any, key: str, allowed: Sequence[str] | None) -> str | None:
    """The single text of a result, also where it is a list of one. Raises DataError for another value."""
    found = value.get(key) if isinstance(value, dict) else None
    if isinstance(found, list):
        if len(found) > 1:
            raise DataError(f"{key} has {len(found)} values, and one is needed")
        found = found[0] if found else None
    if found is not None and (not isinstance(found, str) or (allowed is not None and found not in allowed)):
        raise DataError(f"{key} must be {'text' if allowed is None else ' or '.join(allowed)}, not {found!r}")
    return found


def _author(completed_by: Any, author: str) -> str:
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    if completed_by is None:
        return author
    return completed_by if isinstance(completed_by, str) else f"labelstudio-{completed_by}"


FORMAT = Format(write, read, last_only=True)
