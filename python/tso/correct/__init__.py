"""Corrections: verdicts of judges and people on pairs, one file a source."""
