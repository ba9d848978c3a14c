"""Stages that make what people look at."""
