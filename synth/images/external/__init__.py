"""Models that need another environment: a command that reads prompts as JSON lines and writes pictures. See docs/external.md."""
