"""Options of groups under the names that the original scripts have for them: dataset=PACS, dataset=ImageNet, model=SDXL."""

from collections.abc import Sequence

from launch.config.near import did_you_mean
from synth.errors import InputError

# names of the original scripts and of papers, compared as `_plain` has them
DATASETS = {
    "food": "food101",
    "fgvcaircraft": "aircraft",
    "stanfordcars": "cars",
    "stanfordcar": "cars",
    "flowers102": "flowers",
    "oxfordflowers": "flowers",
    "oxfordflowers102": "flowers",
    "textures": "dtd",
    "imagenet1k": "imagenet",
}
# keys that are known by another name, too
KEYS = {"scores": "features", "scores.clip": "features.model"} | {
    f"scores.{key}": f"features.{key}" for key in ("templates", "batch_size", "unit_size")
}
# a word of Python cannot be the name of a field, and what is asked of recipe=feedback every time is short
SPELT = {"try": "trial", "rounds": "feedback.rounds", "feedback": "feedback.by"}
_OWN = "write its class names into a file, a name a line: dataset=custom dataset.source=FILE"
# datasets of the original scripts whose class names are not here: what is known of them, and the way out
WITHOUT_LIST = {
    "cub200": f"200 birds, 5,994 training pictures); {_OWN}",
    "birds31": f"31 birds, 1,476 training pictures); {_OWN}",
    "birdsnap": f"500 birds); {_OWN}",
    "nico": f"60 classes of 800 training pictures); {_OWN} images.count=800",
    "cct": f"12 animals of 200 training pictures); {_OWN} images.count=200",
    "officehome": f"65 classes); {_OWN}",
    "imagenet21k": f"ImageNet's 21,843 synsets); {_OWN}",
    "sun397": f"397 scenes); {_OWN}",
    "imagenetfull": "ImageNet's 1,000 classes with the sizes of the whole training set); dataset=imagenet "
    "images.count_file=FILE, or images.count=1000",
}


def spelt(word: str) -> str:
    """A setting with its key as it is declared.

    >>> spelt("try=2"), spelt("seed=2"), spelt("feedback=error")
    ('trial=2', 'seed=2', 'feedback.by=error')
    """
    key, equals, value = word.partition("=")
    return f"{SPELT.get(key, key)}{equals}{value}"


def as_typed_key(key: str) -> str:
    """A declared key by the name that people type.

    >>> as_typed_key("trial"), as_typed_key("seed")
    ('try', 'seed')
    """
    return next((typed for typed, declared in SPELT.items() if declared == key), key)


def option_named(group: str, name: str, options: Sequence[str]) -> str:
    """The option of a group that a name means: itself, else in other case, without _ and -, or by its name in the original scripts.

    InputError, with what is known of it, where it means none.
    """
    if name in options:
        return name
    plain = _plain(name)
    alike = [option for option in options if _plain(option) == plain]
    if len(alike) == 1:
        return alike[0]
    if group == "dataset" and DATASETS.get(plain) in options:
        return DATASETS[plain]
    if group == "dataset" and plain in WITHOUT_LIST:
        raise InputError(f"dataset={name}: is not here ({WITHOUT_LIST[plain]}")
    own = f"; classes of your own: {_OWN.partition(': ')[2]}" if group == "dataset" else ""
    raise InputError(f"{group}={name}: no such {group}; there are {', '.join(options)}{did_you_mean(name, options)}{own}")


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "").replace(" ", "")
