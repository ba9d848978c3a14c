"""WordNet through nltk, where both are there: pip install synthset[wordnet], then python -m nltk.downloader wordnet."""

import shlex
import warnings
from collections.abc import Callable
from functools import partial

from synth.errors import InputError
from synth.host.source import interpreter

PLACES = ("corpora/wordnet", "corpora/wordnet.zip/wordnet/")  # below NLTK_DATA and nltk's usual folders


def lookup(what: str) -> Callable[[str], str]:
    """A function from a name to its "hypernym" or "definition", "" if WordNet does not know it. InputError without WordNet."""
    return partial({"hypernym": _hypernym, "definition": _definition}[what], _reader())


def _reader():
    """English WordNet alone: nltk's own `wordnet` wants the data of other languages too."""
    try:
        import nltk.data
        from nltk.corpus.reader.wordnet import WordNetCorpusReader
    except ImportError as e:
        raise InputError("WordNet: nltk is not installed; pip install 'synthset[wordnet]', or give the texts in a file") from e
    for place in PLACES:
        try:
            root = nltk.data.find(place)
        except LookupError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that other languages are not there
            return WordNetCorpusReader(root, None)
    fix = f"{shlex.quote(interpreter())} -m nltk.downloader wordnet (or set NLTK_DATA)"
    raise InputError(f"WordNet: its data is not there; {fix}, or give the texts in a file")


def _first(reader, name: str):
    """The first noun of a name, which WordNet lists by frequency."""
    synsets = reader.synsets("_".join(name.split()), pos="n")
    return synsets[0] if synsets else None


def _hypernym(reader, name: str) -> str:
    synset = _first(reader, name)
    if synset is None:  # of a name that is not in WordNet the last word tells what it is: "vintage fire engine"
        last = name.split()[-1:]
        return last[0] if len(name.split()) > 1 and _first(reader, last[0]) is not None else ""
    above = synset.hypernyms() or synset.instance_hypernyms()
    return above[0].lemma_names()[0].replace("_", " ") if above else ""


def _definition(reader, name: str) -> str:
    synset = _first(reader, name)
    return synset.definition() if synset is not None else ""
