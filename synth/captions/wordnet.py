"""WordNet through nltk, where both are there: pip install synthset[wordnet], then python -m nltk.downloader wordnet."""

from collections.abc import Callable

from synth.errors import InputError


def lookup(what: str) -> Callable[[str], str]:
    """A function from a name to its "hypernym" or "definition", "" if WordNet does not know it. InputError without WordNet."""
    try:
        from nltk.corpus import wordnet
    except ImportError as e:
        msg = "WordNet: nltk is not installed; pip install 'synthset[wordnet]', or give the texts in a file"
        raise InputError(msg) from e
    try:
        wordnet.ensure_loaded()
    except (LookupError, OSError) as e:
        fix = "python -m nltk.downloader wordnet (or set NLTK_DATA), or give the texts in a file"
        msg = f"WordNet: its data is not there; {fix}"
        raise InputError(msg) from e
    return {"hypernym": _hypernym, "definition": _definition}[what]


def _first(name: str):
    """The first noun of a name, which WordNet lists by frequency."""
    from nltk.corpus import wordnet

    found = wordnet.synsets("_".join(name.split()), pos=wordnet.NOUN)
    return found[0] if found else None


def _hypernym(name: str) -> str:
    synset = _first(name)
    if synset is None:  # of a name that is not in WordNet the last word tells what it is: "vintage fire engine"
        last = name.split()[-1:]
        return last[0] if len(name.split()) > 1 and _first(last[0]) is not None else ""
    above = synset.hypernyms() or synset.instance_hypernyms()
    return above[0].lemma_names()[0].replace("_", " ") if above else ""


def _definition(name: str) -> str:
    synset = _first(name)
    return synset.definition() if synset is not None else ""
