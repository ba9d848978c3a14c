"""manifest.parquet of an export: a row a picture, with what is needed to find it again and to tell whether it is whole.

Written row group by row group, so that a set of any size needs the memory of one group.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from synth.store.files import storing

MANIFEST = "manifest.parquet"
GROUP = 8192  # rows in memory, and a row group of the file
TEXTS = ("key", "file", "class", "caption", "sha256")


def row_of(record: Mapping, unit: int) -> dict:
    """A row from an export's record of a picture: its metadata with `key`, `file_name`, `bytes` and `sha256`.

    unit: the unit of the images stage that holds it.
    """
    return {
        "key": record["key"],
        "file": record["file_name"],
        "class": record.get("class"),
        "label": record.get("label"),
        "caption": record.get("caption"),
        "seed": record.get("seed"),
        "width": record.get("width"),
        "height": record.get("height"),
        "size": record["bytes"],
        "sha256": record["sha256"],
        "unit": unit,
    }


def schema():
    import pyarrow as pa

    types = {
        "key": pa.string(),  # as in the units of the images stage
        "file": pa.string(),  # where it is, below the export's folder
        "class": pa.string(),
        "label": pa.int64(),  # official index of the class
        "caption": pa.string(),
        "seed": pa.uint64(),  # of its noise
        "width": pa.int32(),  # pixels
        "height": pa.int32(),
        "size": pa.int64(),  # bytes of the picture file
        "sha256": pa.string(),  # of the picture file
        "unit": pa.int32(),  # of the images stage
    }
    return pa.schema([pa.field(name, tp) for name, tp in types.items()])


class ManifestWriter:
    """Writes a manifest at `path`, and counts pictures by label. The file is whole after `close`; give it its name then."""

    def __init__(self, path: Path):
        import pyarrow.parquet as pq

        self.path = Path(path)
        self.per_label: Counter = Counter()
        self.rows = self.size = 0  # size: bytes of all pictures
        self._pending: list[Mapping] = []
        self._schema = schema()
        with storing(self.path):
            self._writer = pq.ParquetWriter(self.path, self._schema, compression="zstd", version="2.6", store_schema=False)

    def add(self, row: Mapping) -> None:
        self._pending.append(row)
        self.per_label[row["label"]] += 1
        self.rows += 1
        self.size += row["size"]
        if len(self._pending) >= GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        columns = [  # a column at a time: four times faster than a row at a time
            pa.array([stored(field.name, row[field.name]) for row in self._pending], field.type) for field in self._schema
        ]
        with storing(self.path):
            self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self._pending = []

    def close(self) -> None:
        if self._pending:
            self._flush()
        with storing(self.path):
            self._writer.close()


def stored(name: str, value: object) -> object:
    """A value as the column of that name holds it: Parquet holds no lone surrogates."""
    return str(value).encode("utf-8", "replace").decode() if name in TEXTS and value is not None else value


def stored_row(row: Mapping) -> dict:
    return {name: stored(name, value) for name, value in row.items()}
