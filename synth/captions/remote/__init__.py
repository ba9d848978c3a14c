"""Captions asked of OpenAI-compatible servers: somebody else's (engine openai), or our own (engine served)."""
