"""Toy pictures with known contents: emoji drawings on painted backgrounds, their captions, boxes and masks."""
