"""What the models that read texts are told of a class or a background: its name in sentences, and words for what no picture shows. Pure."""

from pathlib import Path

import numpy as np

from synth.embedded.pictures import backgrounds, grammar
from synth.embedded.pictures.render import classes

WORDS = Path(__file__).resolve().parents[2] / "layout" / "words" / "objects.txt"
TEMPLATES = ("{}", "a {}", "the {}", "a photo of a {}", "a photo of the {}", "a picture of a {}", "a drawing of a {}", "an image of a {}")
PLACES = ("{}", "a {}", "a picture of a {}", "a photo of a {}")
# of the list, those that a picture could show without being one of the classes
UNSURE = {
    "animal", "bee", "bird", "boat", "bread", "building", "cloud", "fence", "field", "flower", "food", "fruit", "grass", "house",
    "insect", "kitten", "leaf", "moon", "mountain", "ocean", "person", "plane", "plant", "pole", "puppy", "road", "rock", "sand", "sea",
    "ship", "sky", "star", "street", "sun", "table", "tree", "truck", "van", "vehicle", "wall", "water", "wood", "window", "wheel",
    "toy", "taxi", "jet",
}  # fmt: skip


def of_class(cls: str, rng: np.random.Generator) -> str:
    """'a photo of a small cat', 'cat', 'a apple': templates know nothing of vowels."""
    words = cls
    if rng.random() < 0.2:
        words = f"{rng.choice((*grammar.ADJECTIVES, 'small', 'tiny', 'little', 'large', 'big', 'huge'))} {cls}"
    if rng.random() < 0.2:
        return grammar.article(words)
    return str(rng.choice(TEMPLATES)).replace("{}", words)


def of_background(name: str, rng: np.random.Generator) -> str:
    """'a beach', 'on a sandy beach', 'a picture of a beach'."""
    form = rng.random()
    if form < 0.3:
        return f"{rng.choice(('a picture', 'a view', 'a photo'))} {grammar.background_phrase(name, rng)}"
    if form < 0.5:
        return grammar.background_phrase(name, rng)
    return str(rng.choice(PLACES)).replace("{}", name)


def absent() -> list[str]:
    """Words of the list of the layout stages for what no picture shows."""
    known = " ".join((*classes(), *backgrounds.NAMES, *backgrounds.PLAIN)).split()
    words = [line.strip() for line in WORDS.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return [word for word in words if not set(word.split()) & (UNSURE | set(known))]
