"""The text that guides image to image: a template with the class, or the source's own caption. Pure."""

from synth.images.sources.base import encodable

CLASS = "{class}"


def prompt_of(kind: str, template: str, class_name: str, caption: str) -> str:
    """The prompt of one input; "" if its source has no caption for it. Nothing but {class} in a template is special."""
    return encodable(caption) if kind == "caption" else template.replace(CLASS, class_name)
