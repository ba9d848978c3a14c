"""Stage kind `webdataset`: `shard-000000.tar` ..., shuffled; key.<ext>, key.json and key.txt a picture, keys unique over the whole set.

Pictures are copied byte by byte. Their seeds are text here: they have 64 bits, and many readers of JSON take 63.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from synth.export.config import WebDatasetConfig
from synth.export.image_folder import public
from synth.export.sharded import Sharded, digest_of
from synth.export.sources import FACTS
from synth.reading.sample import StageSample
from synth.store import tars
from synth.store.framing import BLOCK, FRAMINGS
from synth.store.samples import Sample
from synth.store.spec import canonical

SHARDS = "shards.json"
TAIL = bytes(2 * BLOCK)  # the end of a tar


class WebDataset(Sharded):
    config: WebDatasetConfig

    def file_name(self, number: int) -> str:
        return f"shard-{number:06d}.tar"

    def write(self, path: Path, pictures: Iterable[tuple[int, StageSample]]) -> Iterator[tuple[int, str, dict]]:
        with open(path, "xb") as f:
            for position, picture in pictures:
                record = picture.metadata
                raw, data = members(picture, record)
                f.write(raw)
                facts = {"member": f"{picture.key}.{picture.ext}", "bytes": len(data), "sha256": picture.digest()}
                yield position, picture.key, record | facts
            f.write(TAIL)

    def written(self, records: Iterable[dict]) -> Iterator[dict]:
        """Beside the shards: their names, samples and bytes."""
        shards: dict[str, dict] = {}
        for record in records:
            name = record["file_name"].partition("/")[0]
            shards.setdefault(name, {"url": name, "nsamples": 0, "bytes": record["file_bytes"]})["nsamples"] += 1
            yield record
        index = {"name": self.folder.spec.name, "shardlist": [shards[n] for n in sorted(shards)]}
        self.out.write(SHARDS, json.dumps(index, indent=1).encode() + b"\n")

    def how_to_read(self) -> str:
        return """- `shard-*.tar`: the pictures, shuffled; `webdataset.WebDataset("shard-{000000..NNNNNN}.tar")`, \
or `load_dataset("webdataset", data_files="*.tar")`.
  A picture is `<key>.<ext>`, its caption `<key>.txt` (as open_clip reads it), all that is known of it `<key>.json` (caption, class, \
official label, seeds, settings). \
Keys are unique over all shards.
- `shards.json`: name, samples and bytes of each shard."""

    def members_of(self, path: Path) -> Iterator[tuple[str, str]]:
        with open(path, "rb") as raw:
            total = os.fstat(raw.fileno()).st_size
            for member in tars.members(raw):
                if member.stop > total:
                    raise tars.TornTar("it ends inside a member")
                yield member.name, digest_of(os.pread(raw.fileno(), member.size, member.offset)) if member.regular else ""

    def expected_of(self, record: dict) -> list[tuple[str, str]]:
        name = f"{record['member'].rpartition('.')[0]}.json"
        texts = [(f"{name.removesuffix('.json')}.txt", digest_of(text)) for text in caption(record).values()] if self.config.form else []
        return sorted([(name, digest_of(beside(record))), *texts, (record["member"], record["sha256"])])  # as a tar has them


def members(picture: StageSample, record: Mapping) -> tuple[bytes, bytes]:
    """(tar members of a picture as they are to stand in a shard, bytes of its picture file)."""
    data = picture.read()
    return FRAMINGS["tar"].sample(Sample(picture.slot, picture.key, {"json": beside(record), **caption(record), picture.ext: data}))[
        0
    ], data


def caption(record: Mapping) -> dict[str, bytes]:
    """The caption of a picture as a file of its own; none of a picture without one."""
    text = record.get("caption")
    return {"txt": text.encode("utf-8", "replace")} if text else {}


def beside(record: Mapping) -> bytes:
    """The JSON of a picture, from its record in its unit or in this stage."""
    return canonical(public({k: v for k, v in record.items() if k not in FACTS}))
