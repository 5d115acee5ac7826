"""The prompts that ship with tso, so that a first run needs no data of one's own.

120 everyday tasks with one human answer each; every fifth row is held out and must never be trained on.
Reading the file is the job of `tso.prompts`; this module only knows where it lies.
"""

from pathlib import Path


def prompts_path() -> Path:
    """Where the shipped prompts are: a JSONL file with id, prompt, human, language, length and split."""
    return Path(__file__).with_name("prompts.jsonl")
