"""Corrections: judges, people and recorded verdicts on pairs."""
