"""Stage kind `parquet`: `data/train-00000-of-00016.parquet` ..., as Hugging Face datasets stores images: `load_dataset(folder)`."""

import bisect
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from synth.export.config import ParquetConfig
from synth.export.sharded import Sharded, digest_of
from synth.reading.sample import StageSample
from synth.store.spec import canonical

ROWS = 100  # of a row group: what a reader of one picture has to read


class Parquet(Sharded):
    config: ParquetConfig
    packed: ClassVar[tuple[str, ...]] = ("label", "caption", "key", "seed")  # columns that are compressed: pictures are already

    def file_name(self, number: int) -> str:
        return f"data/train-{number:05d}-of-{self.folder.spec.n_units:05d}.parquet"

    def write(self, path: Path, pictures: Iterable[tuple[int, StageSample]]) -> Iterator[tuple[int, str, dict]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = self.schema()
        rows: list[dict] = []
        compression = {**dict.fromkeys(self.packed, "zstd"), "image": "none"}
        with pq.ParquetWriter(path, schema, version="2.6", compression=compression,
                              use_dictionary=False, write_statistics=False, store_schema=True) as writer:  # fmt: skip
            for position, picture in pictures:
                record, data = picture.metadata, picture.read()
                member = f"{picture.key}.{picture.ext}"
                rows.append({"image": {"bytes": data, "path": member}, **self.small(picture.key, record)})
                if len(rows) == ROWS:
                    writer.write_table(pa.Table.from_pylist(rows, schema))
                    rows = []
                yield position, picture.key, record | {"member": member, "bytes": len(data), "sha256": picture.digest()}
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema))

    def small(self, key: str, record: Mapping) -> dict:
        """The columns beside the picture."""
        return {
            "label": bisect.bisect_left(sorted(self.classes), self.label_of(key, record)),
            "caption": _encodable(record.get("caption")),
            "key": key,
            "seed": str(record["seed"]) if "seed" in record else None,
        }

    def members_of(self, path: Path) -> Iterator[tuple[str, str]]:
        import pyarrow.parquet as pq

        schema = self.schema()
        with pq.ParquetFile(path) as f:
            if not f.schema_arrow.equals(schema) or (f.schema_arrow.metadata or {}).get(b"huggingface") != schema.metadata[b"huggingface"]:
                raise ValueError("its columns or its classes are not those of the export")
            for batch in f.iter_batches(64):
                for row in batch.to_pylist():
                    image = row.pop("image")
                    yield image["path"], digest_of(image["bytes"])
                    yield f"row of {image['path'].rpartition('.')[0]}", digest_of(canonical(row))

    def expected_of(self, record: dict) -> list[tuple[str, str]]:
        key = record["member"].rpartition(".")[0]
        return [(record["member"], record["sha256"]), (f"row of {key}", digest_of(canonical(self.small(key, record))))]

    def schema(self):
        """Columns, and the note from which Hugging Face datasets knows that `image` is a picture and `label` a class."""
        import pyarrow as pa

        columns = [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),  # place of the class in the features' names; classes.json has the official index
            ("caption", pa.string()),
            ("key", pa.string()),
            ("seed", pa.string()),  # 64 bits do not fit into the numbers of many readers
        ]
        text = {"dtype": "string", "_type": "Value"}
        features = {"image": {"_type": "Image"}, "label": {"names": self.label_names(), "_type": "ClassLabel"}}
        features |= {"caption": text, "key": text, "seed": text}
        return pa.schema(columns, {"huggingface": json.dumps({"info": {"features": features}}, sort_keys=True)})

    def label_names(self) -> list[str]:
        """Names of the classes in official order, made different where two classes have one name: the loader wants that."""
        names = [self.classes[i] for i in sorted(self.classes)]
        return [
            _encodable(n) if names.count(n) == 1 else f"{_encodable(n)} ({i})" for i, n in zip(sorted(self.classes), names, strict=True)
        ]

    def front_matter(self) -> Mapping:
        return {"configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}]}

    def how_to_read(self) -> str:
        return """- `data/train-*.parquet`: columns image, label, caption, key, seed; `datasets.load_dataset(FOLDER)` opens them.
  `label` counts the classes from 0 in official order; `classes.json` and `manifest.parquet` have the official index."""


def _encodable(text: str | None) -> str | None:
    """Text without lone surrogates, which Parquet cannot hold."""
    return None if text is None else text.encode("utf-8", "replace").decode()
