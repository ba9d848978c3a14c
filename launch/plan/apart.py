"""That pictures of the test set take no part in what it is asked about."""

import gzip
from collections.abc import Iterator, Mapping

from launch.plan.node import Node
from launch.plan.sources import IMAGES, Given, of_given
from synth import foreign
from synth.images.sources.base import Input
from synth.images.sources.listing import NAME
from synth.judge.parts import TEST
from synth.store.spec import InputFile

JUDGE = "judge"


def apart(node: Node, path: str, key: str, what: str, fix: str) -> None:
    """WrongKey where the pictures that `key` names are those of judge.test, or some of them are: the accuracy would be told by what the
    pictures were made for. what: they would do, with its comma; fix: beside giving others."""
    if node.config.judge.test is None:
        return
    given = Given(path, key, whole=True)
    mine, test = (of_given(node, one) for one in (given, Given(node.config.judge.test, f"{JUDGE}.{TEST}", whole=True)))
    stages = [[stage.folder for stage in planned.node.upstream.get(IMAGES, ())] for planned in (mine, test)]
    same = stages[0] == stages[1] if all(stages) else not any(stages) and _identities(mine.inputs) == _identities(test.inputs)
    shared = set(_digests(mine.files.get(NAME, b""))) & set(_digests(test.files.get(NAME, b"")))
    if same or shared:
        which = "it holds the pictures of judge.test" if same else f"{len(shared):,} of its pictures are in judge.test, too, byte by byte"
        raise given.wrong(f"{which}, and would {what}", f"give others, such as a part of the training set, or {fix}")


def _identities(inputs: Mapping[str, InputFile]) -> list[str]:
    return sorted(file.identity for file in inputs.values())


def _digests(listing: bytes) -> Iterator[tuple[str, int]]:
    """Of the pictures of a listing that are known by every byte of their own, or by those of the file that holds many."""
    for line in gzip.decompress(listing).splitlines() if listing else ():
        item = Input.from_list(foreign.parse(line, NAME, halves=True))
        if item.sha256:
            yield item.sha256, -1
        elif item.packed:
            yield item.packed.file, item.offset
