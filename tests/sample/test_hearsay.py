"""The key is taken out of what a server says, however that is spelt."""

from __future__ import annotations

import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tso.sample.hearsay import HIDDEN, Hearsay

KEYS = ['sk-very/secret&key"-0001', "c2stYWJj/ZGVmZ2hp+amtsbQ==", "sk-%41&amp;\\u0041\\\\<'1", "sk-plain-0001"]
SPELLINGS = {
    "plain": lambda text: text,
    "json": lambda text: json.dumps(text)[1:-1],
    "json of other libraries": lambda text: json.dumps(text)[1:-1].replace("/", "\\/").replace("&", "\\u0026"),
    "letters of json": lambda text: "".join(f"\\u{ord(c):04X}" for c in text),
    "address": lambda text: quote(text, safe=""),
    "letters of an address": lambda text: "".join(f"%{ord(c):02x}" for c in text),
    "page": html.escape,
    "letters of a page": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "named letters of a page": lambda text: html.escape(text).replace("/", "&sol;").replace("+", "&#x2B;"),
}


@pytest.mark.parametrize("outer", SPELLINGS)
@pytest.mark.parametrize("inner", SPELLINGS)
@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_taken_out_however_it_is_spelt(key, inner, outer):
    spelt = SPELLINGS[outer](SPELLINGS[inner](key))
    said = Hearsay(key).text(f"100% of a\\b & <c>: {spelt}, {spelt} and no more; &lt;d&gt;")
    assert said == f"100% of a\\b & <c>: {HIDDEN}, {HIDDEN} and no more; &lt;d&gt;"


@pytest.mark.parametrize("around", ["&{};", "&not{};", "a &amp;{}xyz; b", "&{}{};"])
def test_a_key_within_what_looks_like_one_escape_goes_with_all_of_it(around):
    said = Hearsay("keyABCDEF1234").text(around.replace("{}", "%6beyABCDEF1234"))
    assert HIDDEN in said
    assert "ABCDEF" not in said


@given(st.text(alphabet="ab\\u0061%25&amp;#;x/", max_size=60))
def test_texts_without_the_key_stay_as_they_are(text):
    assert Hearsay("sk-a-key-of-its-own").text(text) == text
    assert Hearsay(None).text(text) == text


@given(st.text(max_size=20), st.text(alphabet="sk%\\&;u0041-", min_size=8, max_size=12), st.text(max_size=20))
def test_a_plain_key_never_stays(before, key, after):
    assert key not in Hearsay(key).text(before + key + after).replace(HIDDEN, " ")


def test_short_words_are_no_keys_and_half_characters_go():
    assert Hearsay("EMPTY").text("EMPTY \ud800") == "EMPTY ?"


def test_escapes_without_end_are_read_in_time_that_grows_with_the_text():
    for text in ("\\" * 2**20, "%25" * 2**18, "&amp;" * 2**18, "%" + "25" * 2**19, "&" + "amp;" * 2**18):
        assert Hearsay("sk-a-key-of-its-own").text(text) == text
