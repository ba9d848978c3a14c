"""Models that need another environment: a command that reads prompts and writes pictures. See docs/external.md."""
