"""Text in the data tools: the same as token ids found by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tso import dedup_pairs, dedup_texts, diversity, select_diverse
from tso.errors import DataError
from tso.texts import encode

tokenizers = pytest.importorskip("tokenizers", reason="text needs tokenizers")

TEXTS = [
    "the cat sat on the mat and slept all day",
    "a dog barked",
    None,
    "",
    "the cat sat on the mat and slept all day",
    "Ünïcode  ✓",
]


@pytest.fixture(scope="module")
def tokenizer():
    found = tokenizers.Tokenizer(tokenizers.models.BPE())
    found.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    found.train_from_iterator([text for text in TEXTS if text], trainer)
    found.post_processor = tokenizers.processors.TemplateProcessing(single="$A a", special_tokens=[("a", 1)])
    return found


@pytest.fixture(scope="module")
def ids(tokenizer):
    return [None if t is None else tokenizer.encode(t, add_special_tokens=False).ids for t in TEXTS]


def columns():
    yield TEXTS
    yield pa.array(TEXTS)
    yield pa.array(TEXTS, pa.large_string())
    yield pa.chunked_array([TEXTS[:2], TEXTS[2:]])
    yield pa.chunked_array([["", *TEXTS, None]]).slice(1, len(TEXTS))


def test_every_kind_of_column_gives_the_ids_without_special_tokens(tokenizer, ids):
    for column in columns():
        assert encode(column, tokenizer).to_pylist() == ids
    assert encode([], tokenizer).to_pylist() == []
    assert encode([None, None], tokenizer).to_pylist() == [None, None]


def test_many_texts_are_encoded_in_batches(tokenizer, monkeypatch, ids):
    monkeypatch.setattr("tso.texts._BATCH", 4)
    assert encode(TEXTS * 3, tokenizer).to_pylist() == ids * 3


def test_special_tokens_that_are_to_be_split_are_split_in_the_copy_too(tokenizer):
    own = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    own.add_special_tokens(["<end>"])
    own.encode_special_tokens = True
    before = encode(["a <end> b"], own).to_pylist()
    own.enable_truncation(2)
    assert encode(["a <end> b"], own).to_pylist() == before
    assert len(before[0]) > 5


def test_rows_that_are_no_text_or_no_ids_are_named(tokenizer):
    odd = pa.array([b"ok", b"a\xff"]).view(pa.string())
    with pytest.raises(DataError, match="row 1: byte 1 of the text is not UTF-8"):
        encode(odd, tokenizer)
    with pytest.raises(DataError, match="row 2: "):
        dedup_texts([[1], None, [1, "a"]])


@pytest.mark.parametrize("how", ["truncation", "padding"])
def test_texts_are_neither_cut_nor_padded(tokenizer, ids, tmp_path, how):
    transformers = pytest.importorskip("transformers")
    own = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    if how == "truncation":
        own.enable_truncation(4)
    else:
        own.enable_padding()
    own.save(str(tmp_path / "tokenizer.json"))
    before = own.to_str()
    for given in (own, tmp_path, transformers.PreTrainedTokenizerFast(tokenizer_object=own)):
        assert encode(TEXTS, given).to_pylist() == ids
        rome, oslo = "the history of the city of Rome", "the history of the city of Oslo"
        assert dedup_texts([rome, oslo], tokenizer=given).keep.all()
    assert own.to_str() == before, "the caller's own tokenizer was changed"


def test_what_cuts_and_cannot_be_copied_is_refused():
    class Splitter:
        def pre_tokenize(self, text):
            text.split(lambda i, piece: [piece])

    own = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, "a"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.PreTokenizer.custom(Splitter())
    assert encode(["a"], own).to_pylist() == [[0]]
    own.enable_truncation(4)
    with pytest.raises(DataError, match="cannot be copied .* call its no_truncation"):
        encode(["a"], own)


@pytest.mark.parametrize("size", [1, 30, 1 << 20])
def test_batches_of_texts_change_nothing(tokenizer, ids, monkeypatch, size):
    counts = []
    monkeypatch.setattr("tso.texts._BATCH", size)
    monkeypatch.setattr("tso.texts._ROWS", 4)
    assert encode(TEXTS * 3, tokenizer, counts.append).to_pylist() == ids * 3
    assert sum(counts) == 3 * len(TEXTS)


def test_no_batch_holds_more_than_ctrl_c_may_wait_for(monkeypatch):
    class Counting:
        def encode_batch_fast(self, batch, add_special_tokens):
            assert sum(map(len, batch[:-1])) < 1 << 18
            sizes.append(len(batch))
            return [tokenizers.Encoding() for _ in batch]

    sizes: list[int] = []
    monkeypatch.setattr("tso.texts.find_tokenizer", lambda given: Counting())
    texts = ["long " * 1000] * 200 + ["very long " * 50_000] + [None, ""] * 10_000
    assert len(encode(texts, None)) == sum(sizes) == len(texts)


def test_half_a_surrogate_pair_is_named_with_its_row(tokenizer, monkeypatch):
    monkeypatch.setattr("tso.texts._ROWS", 2)
    with pytest.raises(DataError, match="row 3: character 2 of the text is half of a surrogate pair"):
        dedup_texts(["one", None, "two", "a \ud800"], tokenizer=tokenizer)


def test_tokenizers_by_path_and_of_transformers(tokenizer, ids, tmp_path):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    for given in (tmp_path, tmp_path / "tokenizer.json", str(tmp_path), fast):
        assert encode(TEXTS, given).to_pylist() == ids


def test_the_tools_take_text(tokenizer, ids):
    of_text, of_ids = dedup_texts(TEXTS, tokenizer=tokenizer), dedup_texts(ids)
    assert np.array_equal(of_text.cluster, of_ids.cluster)
    assert of_text.keep.tolist() == [True, True, True, True, False, True]
    pairs = dedup_pairs(TEXTS, TEXTS[::-1], TEXTS[1:] + TEXTS[:1], tokenizer=tokenizer)
    assert np.array_equal(pairs.reason, dedup_pairs(ids, ids[::-1], ids[1:] + ids[:1]).reason)
    scores, expected = diversity(TEXTS, tokenizer=tokenizer), diversity(ids)
    assert all(np.array_equal(scores[name], expected[name], equal_nan=True) for name in expected)
    assert np.array_equal(select_diverse(TEXTS, 3, tokenizer=tokenizer), select_diverse(ids, 3))


@pytest.mark.parametrize(
    ("texts", "given", "said"),
    [
        (TEXTS, "no/such/file", "no tokenizer at no/such/file; give the path of a tokenizer.json"),
        (TEXTS, 7, "tokenizer has to be .* got int"),
        ([1, 2], None, "one text"),
        ([[1], [2]], None, "one text"),
        (pa.array([[1], [2]]), None, "leave the tokenizer out for token ids"),
    ],
)
def test_what_is_refused(tokenizer, texts, given, said):
    with pytest.raises(DataError, match=said):
        dedup_texts(texts, tokenizer=given or tokenizer)


def test_a_file_that_is_no_tokenizer(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="is no tokenizer"):
        dedup_texts(TEXTS, tokenizer=tmp_path)


def test_text_without_a_tokenizer_says_what_is_missing():
    with pytest.raises(DataError, match="row 1 is text"):
        dedup_texts([[1], "one"])
    for column in (TEXTS, pa.array(TEXTS)):
        with pytest.raises(DataError, match="tokenizer="):
            dedup_texts(column)
