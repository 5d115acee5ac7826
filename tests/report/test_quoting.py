"""A pair's story tells cells apart: texts among their options are quoted, servers are told by their address."""

from tso.report.quoting import quoted
from tso.report.shapes import Answer


def test_texts_are_quoted_on_one_line():
    options = {"temperature": 0.7, "stop": ["\nUser:", "\n\n"], "prompt_format": 'Q: "{prompt}"\nA:', "top_k": 5}
    assert quoted(options) == {
        "temperature": 0.7,
        "stop": '["\\nUser:", "\\n\\n"]',
        "prompt_format": '"Q: \\"{prompt}\\"\\nA:"',
        "top_k": 5,
    }


def test_a_server_is_told_by_its_address_and_a_model_here_by_its_hash():
    def of(revision):
        return Answer("A", 1, "cell", "model", revision, "", 0, 1, 2, "stop", "", ()).short_revision

    far = "http://localhost:8000/v1#org/model org/model"
    assert (of(far), of("org/model@main"), of("a1" * 32)) == (far, "org/model@main", "a1" * 6)
