"""Stage kind `webdataset`: `shard-000000.tar` ..., shuffled; key.<ext> and key.json a picture, keys unique over the whole set.

A picture's members are copied as they lie in its unit, headers and all, so that re-sharding costs what copying costs.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from synth.config import WebDatasetConfig
from synth.export.pictures import Picture
from synth.export.sharded import Sharded, digest_of
from synth.stages import Sample
from synth.store.files import write_atomic
from synth.store.framing import BLOCK, FRAMINGS

SHARDS = "shards.json"
TAIL = bytes(2 * BLOCK)  # the end of a tar


class WebDataset(Sharded):
    config: WebDatasetConfig

    def file_name(self, number: int) -> str:
        return f"shard-{number:06d}.tar"

    def write(self, path: Path, pictures: Iterable[tuple[int, Picture]]) -> Iterator[tuple[int, str, dict]]:
        with open(path, "wb") as f:
            for position, picture in pictures:
                record = dict(picture.record())
                raw, data = members(picture)
                f.write(raw)
                facts = {"member": f"{picture.key}.{picture.ext}", "bytes": len(data), "sha256": digest_of(data)}
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
        write_atomic(self.out.path / SHARDS, json.dumps(index, indent=1).encode() + b"\n")

    def how_to_read(self) -> str:
        return """- `shard-*.tar`: the pictures, shuffled; `webdataset.WebDataset("shard-{000000..NNNNNN}.tar")`, or `load_dataset("webdataset", data_files="*.tar")`.
  A picture is `<key>.<ext>`, all that is known of it `<key>.json` (caption, class, label, seeds, settings). Keys are unique over all shards.
- `shards.json`: name, samples and bytes of each shard."""


def members(picture: Picture) -> tuple[bytes, bytes]:
    """(tar members of a picture as they are to stand in a shard, bytes of its picture file)."""
    stored = picture.stored
    spans = sorted(stored.entry.files.values())
    start = spans[0][0] - BLOCK
    stop = spans[-1][0] + -(-spans[-1][1] // BLOCK) * BLOCK
    raw = stored.reader.raw(start, stop - start)
    offset, size = stored.entry.files[picture.ext]
    data = raw[offset - start : offset - start + size]
    if picture.key == stored.key:
        return raw, data
    files = {ext: raw[o - start : o - start + n] for ext, (o, n) in stored.entry.files.items()}
    return FRAMINGS["tar"].sample(Sample(picture.slot, picture.key, files))[0], data
