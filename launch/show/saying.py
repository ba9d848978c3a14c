"""How a command says a thing on a console: as it is, without markup, and printable."""

from rich.console import Console

from synth.terminal import message


def say(console: Console, text: str) -> None:
    """Print a text; what a terminal would obey in it is shown, not sent (see synth.terminal)."""
    console.print(message(text), markup=False, highlight=False, soft_wrap=True)
