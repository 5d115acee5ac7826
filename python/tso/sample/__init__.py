"""Samplers: one file a backend behind the small protocol of base.py."""
