"""Noun phrases of an English alt text, by rules and lists of words: no tagger of parts of speech, no model.

A phrase is a run of words between the words that join a sentence together (of, and, with, is, ..) and punctuation. Articles and numbers
before it go, and a verb in -ing or -ed behind a noun ends it: "two men riding a parked bus" gives men, parked bus. What the rules cannot
know: other verbs ("a dog runs" gives "dog runs"), names, words of other languages.
"""

import html
import re

LONGEST = 40  # letters of a word; longer ones are no words of English
_MARKUP = re.compile(r"<[^<>]*>|https?://\S+|www\.\S+|&[#\w]{1,12};")
_TOKEN = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*|[^\w\s]|\d[\w.,:]*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BEFORE = _words("a an the this that these those some any each every no both all several many few more most other another such")
_NUMBERS = _words("one two three four five six seven eight nine ten eleven twelve dozen dozens hundred hundreds")
_OWNERS = _words("his her their its my your our")
_JOINING = _words(
    "of in on at by with without for from to into onto over under above below behind beside between among against near next through across "
    "along around about after before during inside outside within toward towards off up down out as like than via per amid beneath upon "
    "and or but nor so yet while when where which who whom whose that if because though although until since whether "
    "is are was were be been being am has have had having do does did can could will would shall should may might must "
    "i you he she it we they them him me us himself herself itself themselves there here what how why "
    "not very too also just only even still then now again always never often together away back ahead alone almost "
    "get gets got getting go goes went going make makes made making take takes took taken taking use uses used using "
    "sit sits sat stand stands stood lie lies lay hang hangs hung hold holds held wear wears wore worn ride rides rode play plays "
    "look looks walk walks run runs eat eats show shows shown see sees seen seem seems"
)
# in -ing and -ed, and no verb behind a noun
_ING = _words(
    "building ceiling clothing morning evening wedding painting king ring wing string spring thing sibling duckling pudding railing "
    "lightning swing earring drawing awning dumpling icing frosting bedding lighting parking shopping dining living swimming fishing "
    "boxing racing baking cutting washing sewing training crossing landing bowling welcoming warning vending"
)
_ED = _words("red bed shed seed weed sled feed speed breed reed steed tweed hundred kindred moped biped")
# describe and are nothing by themselves
_DESCRIBING = _words(
    "red orange yellow green blue purple pink brown black white gray grey golden silver dark light bright colorful colourful "
    "big large small little tiny huge tall short long high low wide narrow old new young modern vintage ancient fresh clean dirty "
    "beautiful pretty cute nice good great best happy sad sunny cloudy wet dry hot cold warm cool empty full open closed "
    "left right same different various front ready able own first second third last close isolated"
)
# of the picture and of nothing in it, and words for how many
_NO_THING = _words(
    "photo photos photograph photographs picture pictures image images illustration illustrations view views stock shot closeup close-up "
    "background vector clipart wallpaper portrait scene version style design concept set "
    "group groups pair pairs couple piece pieces kind type lot lots number bunch part parts side top bottom middle center centre corner "
    "edge end way time day days year years moment something someone everyone anything nothing thing things"
)
_NO_NOUN = _DESCRIBING | _NO_THING


def noun_phrases(text: str, max_words: int) -> list[str]:
    """The noun phrases of a text in small letters, in order, each once. max_words: of a phrase, whose last ones are kept.

    Names lose their capitals as in the original: "A Red Car" and "the red car" are one tag, and one category of COCO.

    >>> noun_phrases("A man riding a small brown horse, two dogs &amp; the men's parked red car in front of <b>Big Ben</b>", 3)
    ['man', 'small brown horse', 'dogs', 'parked red car', 'big ben']
    """
    phrases = (" ".join(_trimmed(words)[-max_words:]) for run in _runs(text) for words in _split_at_verbs(run))
    return list(dict.fromkeys(phrase for phrase in phrases if phrase))


def _runs(text: str) -> list[list[str]]:
    """Words that stand together: between what joins, and without what stands before a noun."""
    runs: list[list[str]] = [[]]
    for token in _TOKEN.findall(_MARKUP.sub(" , ", html.unescape(text))):
        word = token.lower().replace("\u2019", "'")
        if not token[0].isalpha() or len(word) > LONGEST or word in _JOINING or word in _BEFORE or word in _NUMBERS or word in _OWNERS:
            runs.append([])
        else:
            runs[-1].append(word)
    return [run for run in runs if run]


def _split_at_verbs(run: list[str]) -> list[list[str]]:
    """Parts of a run around verbs in -ing and -ed; one that begins a run describes what follows it."""
    parts: list[list[str]] = [[]]
    for word in run:
        last = parts[-1][-1] if parts[-1] else ""
        if last and last not in _DESCRIBING and not last.endswith("'s") and _is_verb(word):
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _is_verb(word: str) -> bool:
    return (word.endswith("ing") and len(word) > 5 and word not in _ING) or (word.endswith("ed") and len(word) > 4 and word not in _ED)


def _trimmed(words: list[str]) -> list[str]:
    """Without what stands behind the noun and describes nothing, or is no thing; nothing where no noun is left."""
    end = len(words)
    while end and (words[end - 1] in _NO_NOUN or _is_verb(words[end - 1])):
        end -= 1
    return words[:end] if end and len(words[end - 1]) > 1 else []
