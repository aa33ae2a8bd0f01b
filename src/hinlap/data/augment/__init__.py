"""Variants of one's own rows: what a model is asked, and which of its answers can be used."""
