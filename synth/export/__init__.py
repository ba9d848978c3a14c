"""Stages that turn committed units into what people and trainers read. Bytes are copied, sources are never touched."""
