"""Captions by any causal language model that transformers reads from a folder."""
