"""The native caption engine: LLaMA-2 in Meta's checkpoint layout, run by torchrun (see engine.py for the way in)."""
