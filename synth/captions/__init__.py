"""Captions: prompt makers and caption engines."""
