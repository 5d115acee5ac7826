"""Line breaks in stop strings and formats are seen in a story, and do not break its lines."""

from tso.report.quoting import quoted


def test_texts_are_quoted_on_one_line():
    options = {"temperature": 0.7, "stop": ["\nUser:", "\n\n"], "prompt_format": 'Q: "{prompt}"\nA:', "top_k": 5}
    assert quoted(options) == {
        "temperature": 0.7,
        "stop": '["\\nUser:", "\\n\\n"]',
        "prompt_format": '"Q: \\"{prompt}\\"\\nA:"',
        "top_k": 5,
    }
