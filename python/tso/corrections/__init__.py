"""People's verdicts out of a run and into one, as files: our own JSONL, and those of Argilla and Label Studio."""

from tso.corrections.files import FORMATS, export_file, import_file

__all__ = ["FORMATS", "export_file", "import_file"]
