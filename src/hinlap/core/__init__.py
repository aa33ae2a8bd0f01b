"""Nouns that every room shares, and the tree of errors. Standard library only."""
