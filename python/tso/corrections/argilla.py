"""Argilla 2: the JSON file that `dataset.records.to_json` writes and `from_json` reads, a record a pair.

The dataset needs the settings that docs/people.md shows: a ChatField `prompt`, TextFields `left` and `right`, a
LabelQuestion `better` with LABELS, and a TextQuestion `edit` that is not required. A text in `edit` makes the verdict an
edit of the side that `better` names. Argilla knows users by UUIDs: the names are kept in the metadata `annotators`.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tso.corrections.matter import Format, Line, Shown, records, unknown, written
from tso.errors import DataError
from tso.verdicts import OTHER, Verdict, person

SPACE = uuid.UUID("5b0c5f0e-52d1-5b53-9f0c-0d6a3c4f7b11")  # of the UUIDs that are made of names
LABELS = ("left", "right", "tie", "both_bad")


def write(pairs: Sequence[Shown]) -> str:
    return written([_record(pair) for pair in pairs])


def _record(shown: Shown) -> dict[str, Any]:
    responses: dict[str, list[dict[str, Any]]] = {}
    names = {}
    for verdict in shown.latest:
        user = _user(verdict.annotator)
        if user != verdict.annotator:
            names[user] = verdict.annotator
        label = shown.side_of(verdict.answer) if verdict.answer in OTHER else verdict.said
        if label in LABELS:
            responses.setdefault("better", []).append(_response(label, user))
        if verdict.text is not None:
            responses.setdefault("edit", []).append(_response(verdict.text, user))
    return {
        "id": shown.pair.id,
        "fields": {
            "prompt": [{"role": m.role, "content": m.content} for m in shown.messages],
            "left": shown.left,
            "right": shown.right,
        },
        "metadata": {"annotators": json.dumps(names, ensure_ascii=False, sort_keys=True)} if names else {},
        "suggestions": {},
        "responses": responses,
        "vectors": {},
        "_server_id": None,
    }


def _response(value: str, user: str) -> dict[str, str]:
    return {"value": value, "user_id": user, "status": "submitted"}


def _user(name: str) -> str:
    """A name that is a UUID came from Argilla, and stays."""
    try:
        return name if str(uuid.UUID(name)) == name else str(uuid.uuid5(SPACE, name))
    except ValueError:
        return str(uuid.uuid5(SPACE, name))


def read(text: str, pairs: Mapping[str, Shown], author: str) -> tuple[list[Line], list[str]]:
    found, wrong = [], []
    for where, record in records(text):
        try:
            found += [Line(where, verdict) for verdict in _verdicts(record, pairs)]
        except DataError as err:
            wrong.append(f"{where}: {err}")
    return found, wrong


def _verdicts(record: Mapping[str, Any], pairs: Mapping[str, Shown]) -> list[Verdict]:
    why = unknown(record.get("id"), pairs)
    if why:
        raise DataError(why)
    shown = pairs[record["id"]]
    fields, names = _object(record, "fields"), _names(record)
    said: dict[str, dict[str, str]] = defaultdict(dict)
    for question, answers in _object(record, "responses").items():
        for user, value in _answers(question, answers):
            if question in ("better", "edit"):
                said[user][question] = value
    return [
        _verdict(shown, fields, person(names.get(user, user)), given.get("better"), given.get("edit"))
        for user, given in said.items()
    ]


def _verdict(shown: Shown, fields: Mapping[str, Any], annotator: str, label: str | None, text: str | None) -> Verdict:
    if label is not None and label not in LABELS:
        raise DataError(f"better must be one of {', '.join(LABELS)}, not {label!r}")
    side = label in ("left", "right")
    answer = shown.answer_at(label, fields.get("left"), fields.get("right")) if label is not None and side else None
    if text is not None and text.strip():
        return Verdict(shown.pair.id, annotator, "edit", answer, text)
    if label is None:
        raise DataError("an edit without a text")
    return Verdict(shown.pair.id, annotator, answer or label)


def _answers(question: str, answers: Any) -> list[tuple[str, str]]:
    if not isinstance(answers, list):
        raise DataError(f"the responses to {question!r} have to be a list")
    found = []
    for answer in answers:
        if not isinstance(answer, dict) or not isinstance(answer.get("user_id"), str):
            raise DataError(f"a response to {question!r} has no user_id")
        if question in ("better", "edit") and not isinstance(answer.get("value"), str):
            raise DataError(f"a response to {question!r} has to be text, not {answer.get('value')!r}")
        if answer.get("status") in ("draft", "discarded"):
            continue  # not given, or withdrawn
        found.append((answer["user_id"], answer["value"] if isinstance(answer.get("value"), str) else ""))
    return found


def _names(record: Mapping[str, Any]) -> dict[str, str]:
    kept = _object(record, "metadata").get("annotators", "{}")
    try:
        names = json.loads(kept)
    except (TypeError, ValueError) as err:
        raise DataError("its metadata 'annotators' is no JSON object") from err
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise DataError("its metadata 'annotators' is no JSON object of names")
    return names


def _object(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = record.get(name) or {}
    if not isinstance(value, dict):
        raise DataError(f"{name} has to be an object")
    return value


FORMAT = Format(write, read, last_only=True)
