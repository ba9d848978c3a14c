"""A text turned into sequences of pictures in several styles."""
