"""The judge: how good a set of pictures is, and whether it trains."""
