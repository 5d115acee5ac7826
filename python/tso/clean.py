"""`tso dedup` and `tso diversity`: the data tools on files. Rows in, rows out, and a list of what was taken out and why.

Knows files, columns and words; what a duplicate is, `dedup.py` says. Rows keep their own columns as they were.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tso import clean_report, fields, sides
from tso import output as out
from tso.clean_output import twins, whole_text, write_both
from tso.clean_report import Album
from tso.dedup import Deduped, dedup_pairs, dedup_texts
from tso.diversity import diversity
from tso.errors import DataError
from tso.progress import Face
from tso.tables import Columns, Files, Lines, Source, Tables, read


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of `tso dedup` wrote, and what it took out: rows by reason."""

    kept: Path
    removed: Path
    counts: Mapping[str, int]


def dedup_files(
    paths: Sequence[Path],
    output: Path,
    face: Face,
    *,
    column: str | None = None,
    tokenizer: Any = None,
    overwrite: bool = False,
    report: bool = False,
    engine: str = "local",
    ray_address: str | None = None,
    work_dir: Path | None = None,
    **options: Any,
) -> Outcome:
    """Write the rows that stay to `output` and the others, with their reasons, to a file beside it.

    Rows with `chosen` and `rejected` are pairs (`dedup_pairs`, with what conversations of both sides begin with as a part
    of the prompt), all others texts of one column (`dedup_texts`); a `column` makes texts of any row. Text needs a
    tokenizer, lists of token ids none. `options` go to the function. With `report` a page with examples is written beside
    the output.

    With `engine` "ray" the workers of a Ray cluster read the files and compare texts (see `tso.ray_engine`), with "disk"
    this process does, piece by piece, with what is not at hand in files of `work_dir` (see `tso.disk_engine`); the
    files written are the same.

    Raises DataError that says what to do: no such column, no tokenizer, an output that exists or cannot be named so.
    """
    removed, page = _beside(output, overwrite), output.with_name(output.name + ".report.html")
    out.apart((output, removed, page) if report else (output, removed), paths)
    _check_column(column)
    if os.path.exists(page) and not overwrite:  # without one now, it would tell of other outputs
        raise DataError(f"{page} exists; give another name, or --overwrite")
    if report:
        out.check_page(page)
    told = dict(options)
    if engine == "local":
        source: Source = (columns := read(paths, face))
        _check_schema(source, output)
        found, what = _dedup(columns, column, tokenizer, face, options)
    else:
        tables = Tables.of(paths)
        _check_schema(tables, output)
        words = {"column": column, "tokenizer": tokenizer}
        found, what = _in_parts(engine, ray_address, work_dir, paths, face, **words, **options)
        source = tables or Files(tuple(paths), len(found.keep))
    face.say(f"{len(found.keep):,} rows compared by {what}, {int(found.keep.sum()):,} stay")
    album = Album(found, twins(found), lambda values: whole_text(values, column)) if report else None
    lines = write_both(source, found, output, removed, album, column, face)
    if lines:
        shown = [
            {**line, "rows": f"{line['rows']:,}", "share": f"{line['rows'] / len(found.keep):.1%}"} for line in lines
        ]
        face.table("taken out", ("reason", "rows", "share", "for example", "like", "text"), shown)
    if found.uncompared:
        face.warn(f"{found.uncompared:,} pairs of very common texts were not compared; --mode exact compares all")
    face.say(f"kept: {output}\nremoved, with reasons: {removed}")
    if album is not None:
        clean_report.write(page, paths, output, told, album)
        face.say(f"report: {page}")
    elif os.path.isfile(page):
        page.unlink()
        face.say(f"removed the report of the earlier outputs: {page}")
    return Outcome(output, removed, {str(line["reason"]): line["rows"] for line in lines})


def _check_schema(source: Source | None, output: Path) -> None:
    """What would not fit one file is said before the work."""
    if source is None or not len(source):
        return
    if isinstance(source, Lines | Tables):
        fields.check_free(source.names())
    if not output.name.lower().endswith(".parquet"):
        if isinstance(source, Tables):
            out.check_json(next(source.chunks()))
    elif (schema := source.schema()) is not None:
        out.check_schema(schema)


def _in_parts(
    engine: str, ray_address: str | None, work_dir: Path | None, paths: Sequence[Path], face: Face, **options: Any
) -> tuple[Deduped, str]:
    from tso import disk_engine, pieces, ray_engine
    from tso.engine import dedup_paths

    if options.pop("mode", "lsh") != "lsh":
        raise DataError("--mode exact needs all texts in one place: use --engine local, or leave --mode out")
    for name in ("scope", "max_length", "threads"):
        if options.pop(name, None) is not None:
            raise DataError(f"--{name.replace('_', '-')} is for --engine local")
    parts = pieces.cut(paths)
    with ray_engine.connected(ray_address) if engine == "ray" else disk_engine.opened(work_dir) as pool:
        found, read = dedup_paths(pool, paths, parts, face, **options)
    for remark in read.bad:
        face.warn(remark)
    return found, _by(read.column, read.without)


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
    _check_column(column)
    if output is not None:
        out.check(output, overwrite=False, hint="")
        out.apart([output], [*paths, *history])
    source = read(paths, face)
    name = column or fields.text_column(source.names())
    keys, groups = _groups(source, by)
    _check_scores(output, by, keys, diversity([[0]], history=[[0]] if history else None, **options))
    earlier = read(history, face, "--history") if history else None
    past = None if earlier is None else _history(earlier, source, name, tokenizer, face)
    tokens = _tokens(source, name, tokenizer, face)
    with (
        fields.odd_ids_named([tokens], source.place),
        fields.odd_ids_named([] if past is None else [past], (earlier or source).place),
    ):
        scores = dict(diversity(tokens, groups, history=past, **options))
    shown = [{"score": score, "mean": _mean(values)} for score, values in scores.items() if score != "group"]
    face.table(f"{len(keys):,} groups of {name!r}", ("score", "mean"), shown)
    if output is not None:
        columns = {score: values.tolist() for score, values in scores.items() if score != "group"}
        columns = {by or "group": keys, **columns}
        table = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        with out.whole(output) as (draft,):
            out.write_rows(draft, table)
        odd = sum(isinstance(key, float) and not math.isfinite(key) for key in keys)
        if odd and not output.name.endswith(".parquet"):
            face.warn(f"{odd:,} values of {by!r} are numbers that JSON does not know, written as null")
        face.say(f"scores of each group: {output}")
    return scores


def _check_scores(output: Path | None, by: str | None, keys: Sequence[Any], names: Iterable[str]) -> None:
    """What would not fit the file of scores is said before the work."""
    if output is None:
        return
    if by is not None and by != "group" and by in names:
        raise DataError(f"--by {by}: the scores have a column of that name; rename yours")
    if output.name.lower().endswith(".parquet"):
        out.check_column(keys)


# --- columns


def _check_column(column: str | None) -> None:
    if column == "":
        raise DataError("--column needs a name")


def _by(column: str, without: int) -> str:
    return f"column {column!r}" + (f", {without:,} of them without a value" if without else "")


def _dedup(
    source: Columns, column: str | None, tokenizer: Any, face: Face, options: dict[str, Any]
) -> tuple[Deduped, str]:
    """The result, and what was compared, in words."""
    keep = options.pop("keep", "first")
    if keep not in ("first", "longest"):
        keep = _scores(source, keep)
    if column is None and _are_pairs(source):
        columns = sides.columns(*(source.column(name) for name in ("prompt", *fields.SIDES)))
        if isinstance(columns[0], list) and not any(columns[0]):
            face.warn(
                "no row tells a prompt: all are taken for answers to one, and what sides begin with for a part of the answer"
            )
        parts = [_ids(part, source, tokenizer, face) for part in columns]
        without = _without(parts)
        more = f", {without:,} of them without one of the three and so left as they are" if without else ""
        with fields.odd_ids_named(parts, source.place):
            return dedup_pairs(*parts, keep=keep, **options), f"prompt, chosen and rejected{more}"
    for name in ("scope", "max_length"):
        if options.pop(name, None) is not None:
            raise DataError(f"--{name.replace('_', '-')} is for pairs, and these rows have no chosen and rejected")
    name = column or fields.text_column(source.names())
    tokens = _tokens(source, name, tokenizer, face)
    with fields.odd_ids_named([tokens], source.place):
        found = dedup_texts(tokens, keep=keep, **options)
    return found, _by(name, tokens.null_count if hasattr(tokens, "type") else tokens.count(None))


def _without(columns: Sequence[Any]) -> int:
    """The number of rows with a null in any of some columns of token ids."""
    nulls = [
        np.fromiter((value is None for value in column), bool, len(column))
        if isinstance(column, list)
        else np.asarray(column.is_null())
        for column in columns
    ]
    return int(np.logical_or.reduce(nulls).sum())


def _are_pairs(source: Columns) -> bool:
    """Raises DataError where some rows are pairs and others are not: texts of theirs would be compared instead."""
    if source.first(fields.SIDES, having=True) is None:
        return False
    without = source.first(fields.SIDES, having=False)
    if without is not None:
        raise fields.no_pair(source.place(without))
    return True


def _tokens(source: Columns, name: str, tokenizer: Any, face: Face) -> Any:
    fields.check_column(name, source.names())
    return _ids(source.column(name), source, tokenizer, face)


def _history(past: Columns, source: Columns, name: str, tokenizer: Any, face: Face) -> Any:
    fields.check_column(name, past.names())
    column = past.column(name)
    if fields.holds_ids(column, past.place) != fields.holds_ids(source.column(name), source.place):
        raise DataError(
            f"--history: {name!r} holds token ids on one side and text on the other; both have to be the same"
        )
    return _ids(column, past, tokenizer, face)


def _ids(column: Any, source: Columns, tokenizer: Any, face: Face) -> Any:
    """Token ids as they are, and those of all else as text."""
    if fields.holds_ids(column, source.place):
        return column
    fields.check_tokenizer(tokenizer)
    from tso.texts import encode

    with face.bar("tokenising", len(column), "texts") as advance:
        return encode(fields.as_texts(column, source.place), tokenizer, advance)


def _scores(source: Columns, name: str) -> list[float]:
    values = source.column(name)
    bad = fields.first_without_number(values)
    if bad is not None:
        raise fields.no_score(name, source.place(bad))
    return list(values)


def _groups(source: Columns, by: str | None) -> tuple[list[Any], list[int]]:
    """The distinct values of a column in order of appearance, and the number of each row's."""
    if by is None:
        return ["all"], [0] * len(source)
    if by not in source.names():
        raise DataError(f"no column {by!r}; there is {', '.join(source.names())}")
    numbers: dict[tuple[type, str], int] = {}
    keys: list[Any] = []
    found: list[int] = []
    for value in fields.values(source.column(by)):
        number = numbers.setdefault((type(value), fields.compared(value)), len(keys))
        if number == len(keys):
            keys.append(value)
        found.append(number)
    return keys, found


def _beside(output: Path, overwrite: bool) -> Path:
    suffix = out.check(output, overwrite)
    removed = output.with_name(output.name[: -len(suffix)] + ".removed" + suffix)
    out.check(removed, overwrite)
    return removed


def _mean(values: Any) -> str:
    values = np.asarray(values, dtype=float)
    known = values[~np.isnan(values)]
    return f"{known.mean():.4g}" if len(known) else "-"
