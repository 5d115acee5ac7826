"""`tso dedup` and `tso diversity`: the data tools on files. Rows in, rows out, and a list of what was taken out and why.

Knows files, columns and words; what a duplicate is, `dedup.py` says. Rows keep their own columns as they were.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso import rows
from tso.dedup import Deduped, dedup_pairs, dedup_texts
from tso.diversity import diversity
from tso.errors import DataError
from tso.progress import Face

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz")
SIDES = ("chosen", "rejected")
TEXTS = ("text", "response", "completion", "output", "answer", "content", "messages", "prompt")
_SHOWN = 60  # characters of an example


@dataclass(frozen=True, slots=True)
class Source:
    """The rows of some files that can be used, and where each stood."""

    paths: tuple[Path, ...]
    values: list[Mapping[str, Any]]
    places: list[str]

    def column(self, name: str) -> list[Any]:
        return [row.get(name) for row in self.values]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of `tso dedup` wrote, and what it took out: rows by reason."""

    kept: Path
    removed: Path
    counts: Mapping[str, int]


def read(paths: Sequence[Path], face: Face, option: str = "input") -> Source:
    """All rows of files or folders, one source after the other. Lines that hold no row are named and left out."""
    values, places, bad = [], [], []
    for path in paths:
        for row in rows.read(path, option=option):
            where = f"{path} {row.where(path)}"
            problem = row.problem or ("plain text, not a row" if row.text is not None else "")
            if problem:
                bad.append(f"{where}: {problem}")
                continue
            values.append(row.values)
            places.append(where)
    for line in bad[:5]:
        face.warn(f"left out: {line}")
    if len(bad) > 5:
        face.warn(f"left out: {len(bad) - 5} more lines that hold no row")
    if not values:
        raise DataError(f"no row in {', '.join(map(str, paths))}; {rows.ACCEPTED}")
    return Source(tuple(paths), values, places)


def dedup_files(
    paths: Sequence[Path],
    output: Path,
    face: Face,
    *,
    column: str | None = None,
    tokenizer: Any = None,
    overwrite: bool = False,
    **options: Any,
) -> Outcome:
    """Write the rows that stay to `output` and the others, with their reasons, to a file beside it.

    Rows with `chosen` and `rejected` are pairs (`dedup_pairs`), all others texts of one column (`dedup_texts`); a `column`
    makes texts of any row. Text needs a tokenizer, lists of token ids none. `options` go to the function.

    Raises DataError that says what to do: no such column, no tokenizer, an output that exists or cannot be named so.
    """
    removed = _beside(output, overwrite)
    source = read(paths, face)
    found = _dedup(source, column, tokenizer, options)
    face.say(f"{len(found.keep):,} rows compared, {int(found.keep.sum()):,} stay")
    _write(output, (row for row, keep in zip(source.values, found.keep, strict=True) if keep), source)
    twins = _twins(found)
    listed = {int(row): _listed(source, found, int(row), int(twins[row])) for row in np.flatnonzero(~found.keep)}
    _write(removed, listed.values(), None)
    counts = Counter(row["removed_reason"] for row in listed.values())
    _tell(face, listed, counts, len(source.values), column)
    if found.uncompared:
        face.warn(f"{found.uncompared:,} pairs of very common texts were not compared; --mode exact compares all")
    face.say(f"kept: {output}\nremoved, with reasons: {removed}")
    return Outcome(output, removed, counts)


def diversity_of_files(
    paths: Sequence[Path],
    face: Face,
    *,
    column: str | None = None,
    by: str | None = None,
    history: Sequence[Path] = (),
    tokenizer: Any = None,
    output: Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Scores of the texts of each value of column `by` (of all texts without one), as `tso.diversity`; means are shown.

    `history` are files or folders with the same column, whose texts novelty is taken against.
    Raises DataError as `dedup_files`.
    """
    if output is not None:
        _check_output(output, overwrite=False)
    source = read(paths, face)
    name = column or _text_column(source)
    keys, groups = _groups(source, by)
    texts, coder = _texts(source, name, tokenizer), _if_text(source, name, tokenizer)
    past = _history(read(history, face, "--history"), source, name, tokenizer) if history else None
    scores = dict(diversity(texts, groups, history=past, tokenizer=coder, **options))
    shown = [{"score": score, "mean": _mean(values)} for score, values in scores.items() if score != "group"]
    face.table(f"{len(keys):,} groups of {name!r}", ("score", "mean"), shown)
    if output is not None:
        columns = {
            by or "group": keys,
            **{score: values.tolist() for score, values in scores.items() if score != "group"},
        }
        table = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        _write(output, table, None)
        face.say(f"scores of each group: {output}")
    return scores


# --- columns


def _dedup(source: Source, column: str | None, tokenizer: Any, options: dict[str, Any]) -> Deduped:
    keep = options.pop("keep", "first")
    if keep not in ("first", "longest"):
        keep = _scores(source, keep)
    if column is None and all(name in row for row in source.values for name in SIDES):
        prompts, sides = _prompts(source), [source.column(side) for side in SIDES]
        texts = [_as_text(part, tokenizer) for part in (prompts, *sides)]
        coder = None if all(_is_ids(part) for part in texts) else tokenizer
        return dedup_pairs(*texts, keep=keep, tokenizer=coder, **options)
    for name in ("scope", "max_length"):
        if options.pop(name, None) is not None:
            raise DataError(f"--{name.replace('_', '-')} is for pairs, and these rows have no chosen and rejected")
    name = column or _text_column(source)
    texts = _texts(source, name, tokenizer)
    return dedup_texts(texts, keep=keep, tokenizer=_if_text(source, name, tokenizer), **options)


def _text_column(source: Source) -> str:
    names = list(dict.fromkeys(name for row in source.values for name in row))
    for name in TEXTS:
        if name in names:
            return name
    raise DataError(f"no column of text is known by name among {', '.join(names)}; name one with --column")


def _texts(source: Source, name: str, tokenizer: Any) -> list[Any]:
    if not any(name in row for row in source.values):
        names = dict.fromkeys(name for row in source.values for name in row)
        raise DataError(f"no column {name!r}; there is {', '.join(names)}: name one with --column")
    return _as_text(source.column(name), tokenizer)


def _history(past: Source, source: Source, name: str, tokenizer: Any) -> list[Any]:
    texts = _texts(past, name, tokenizer)
    if _is_ids(texts) != _is_ids(source.column(name)):
        raise DataError(
            f"--history: {name!r} holds token ids on one side and text on the other; both have to be the same"
        )
    return texts


def _if_text(source: Source, name: str, tokenizer: Any) -> Any:
    return None if _is_ids(source.column(name)) else tokenizer


def _is_ids(column: Iterable[Any]) -> bool:
    """Lists of whole numbers, as far as there are any."""
    first = next((value for value in column if value), None)
    return isinstance(first, list) and isinstance(first[0], int)


def _as_text(column: list[Any], tokenizer: Any) -> list[Any]:
    """Token ids as they are, all else as text: conversations as their messages, one after the other."""
    if _is_ids(column):
        return column
    if tokenizer is None:
        raise DataError(
            "these columns are text: give the tokenizer whose tokens are to be compared with --tokenizer (the path of a "
            "tokenizer.json or of a model's folder)"
        )
    return [None if value is None else _text(value) for value in column]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        return "\n".join(f"{item.get('role', '')}: {item.get('content', '')}" for item in value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _prompts(source: Source) -> list[Any]:
    """The column prompt; without one, what the conversations of both sides begin with."""
    if any(row.get("prompt") is not None for row in source.values):
        return source.column("prompt")
    return [_shared(row["chosen"], row["rejected"]) for row in source.values]


def _shared(chosen: Any, rejected: Any) -> Any:
    if not (isinstance(chosen, list) and isinstance(rejected, list)):
        return [] if isinstance(chosen, list) or isinstance(rejected, list) else ""
    count = next(
        (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected))
    )
    return chosen[:count]


def _scores(source: Source, name: str) -> list[float]:
    values = source.column(name)
    bad = next(
        (i for i, value in enumerate(values) if isinstance(value, bool) or not isinstance(value, int | float)), None
    )
    if bad is not None:
        raise DataError(
            f"--keep {name}: neither first nor longest, nor a column with a number in every row ({source.places[bad]} has none)"
        )
    return values


def _groups(source: Source, by: str | None) -> tuple[list[Any], list[int]]:
    """The distinct values of a column in order of appearance, and the number of each row's."""
    if by is None:
        return ["all"], [0] * len(source.values)
    if not any(by in row for row in source.values):
        raise DataError(
            f"no column {by!r}; there is {', '.join(dict.fromkeys(n for row in source.values for n in row))}"
        )
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(_text(row.get(by)), len(numbers)) for row in source.values]
    return list(numbers), found


# --- files


def _beside(output: Path, overwrite: bool) -> Path:
    suffix = _check_output(output, overwrite)
    removed = output.with_name(output.name[: -len(suffix)] + ".removed" + suffix)
    _check_output(removed, overwrite)
    return removed


def _check_output(path: Path, overwrite: bool) -> str:
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise DataError(f"{path}: the output's name has to end in {', '.join(SUFFIXES)}")
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists; give another name, or --overwrite")
    if not path.parent.is_dir():
        raise DataError(f"{path}: there is no folder {path.parent}")
    return suffix


def _write(path: Path, values: Iterable[Mapping[str, Any]], source: Source | None) -> None:
    """Whole or not at all: under another name first."""
    draft = path.with_name(path.name + ".part")
    try:
        if path.name.lower().endswith(".parquet"):
            _write_parquet(draft, list(values), source)
        else:
            packed = path.name.lower().endswith(".gz")
            with gzip.open(draft, "wt", encoding="utf-8") if packed else draft.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in values)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _write_parquet(path: Path, values: list[Mapping[str, Any]], source: Source | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = None
    if source is not None and all(p.suffix.lower() == ".parquet" for p in source.paths):
        schema = pa.unify_schemas([pq.read_schema(p) for p in source.paths])
    try:
        pq.write_table(pa.Table.from_pylist(values, schema=schema), path)
    except pa.ArrowException as err:
        raise DataError(f"the rows do not fit one Parquet table ({err}); write .jsonl instead") from err


# --- words


def _listed(source: Source, found: Deduped, row: int, twin: int) -> dict[str, Any]:
    """A removed row with its reason and, where it is a duplicate, the row that stays for it."""
    return {
        **source.values[row],
        "removed_reason": found.reason_names(row),
        "removed_from": source.places[row],
        "duplicate_of": None if twin < 0 else source.places[twin],
    }


def _twins(found: Deduped) -> NDArray[np.int64]:
    """For each row the first row of its cluster that stays, -1 where that is the row itself or none."""
    stays = np.flatnonzero(found.keep)[::-1]
    of_cluster = np.full(len(found.keep), -1, np.int64)
    of_cluster[found.cluster[stays]] = stays
    twins = of_cluster[found.cluster]
    twins[twins == np.arange(len(twins))] = -1
    return twins


def _tell(
    face: Face, listed: Mapping[int, Mapping[str, Any]], counts: Mapping[str, int], total: int, column: str | None
) -> None:
    lines = []
    for reason, count in sorted(counts.items(), key=lambda item: -item[1]):
        row = next(row for row in listed.values() if row["removed_reason"] == reason)
        lines.append(
            {
                "reason": reason,
                "rows": f"{count:,}",
                "share": f"{count / total:.1%}",
                "for example": row["removed_from"],
                "like": row["duplicate_of"] or "",
                "text": _snippet(row, column),
            }
        )
    if lines:
        face.table("taken out", ("reason", "rows", "share", "for example", "like", "text"), lines)


def _snippet(row: Mapping[str, Any], column: str | None) -> str:
    name = column or next((name for name in ("chosen", *TEXTS) if row.get(name)), None)
    text = " ".join(_text(row[name]).split()) if name else ""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _mean(values: Any) -> str:
    values = np.asarray(values, dtype=float)
    known = values[~np.isnan(values)]
    return f"{known.mean():.4g}" if len(known) else "-"
