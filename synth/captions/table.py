"""The rows of captions.json and captions.parquet: how they are written, and how a worker reads only those it needs."""

import contextlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from synth.errors import InputError, not_trouble
from synth.store.large import LargeFile

ROW_GROUP = 1024  # rows; what a worker reads at least


@dataclass(frozen=True)
class CaptionRow:
    """One row of captions.parquet."""

    row: int
    caption: str
    class_name: str
    label: int  # official index of the class
    labels: tuple[int, ...]
    label_names: tuple[str, ...]
    seed: int  # 64 bits; all draws of its pictures hang on it
    slot: int  # in its captions stage
    source: str  # fingerprint of its captions stage


def to_json(captions: list[CaptionRow]) -> bytes:
    """SynCLR's form, a row a line."""
    lines = ",\n".join(json.dumps([r.caption, list(r.label_names)], ensure_ascii=False) for r in captions)
    return ('{"captions_single_labeled": [\n' + lines + "\n]}\n").encode()


def schema():
    """The columns of captions.parquet."""
    import pyarrow as pa

    return pa.schema(
        [
            ("row", pa.int64()),
            ("caption", pa.string()),
            ("class", pa.string()),
            ("label", pa.int32()),
            ("labels", pa.list_(pa.int32())),
            ("label_names", pa.list_(pa.string())),
            ("seed", pa.uint64()),
            ("slot", pa.int64()),
            ("source", pa.string()),
        ]
    )


def to_parquet(captions: list[CaptionRow]) -> bytes:
    """Row groups of 1,024; every writer setting pinned, so one version of pyarrow always gives the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    with pq.ParquetWriter(
        out, schema(), version="2.6", compression="zstd", compression_level=3, use_dictionary=["class", "source"]
    ) as writer:
        for start in range(0, len(captions), ROW_GROUP):
            part = captions[start : start + ROW_GROUP]
            table = {
                "row": [r.row for r in part],
                "caption": [r.caption for r in part],
                "class": [r.class_name for r in part],
                "label": [r.label for r in part],
                "labels": [r.labels for r in part],
                "label_names": [r.label_names for r in part],
                "seed": [r.seed for r in part],
                "slot": [r.slot for r in part],
                "source": [r.source for r in part],
            }
            writer.write_table(pa.table(table, schema=schema()), row_group_size=ROW_GROUP)
    return out.getvalue()


@contextlib.contextmanager
def _opened(stage):
    """captions.parquet inside the unit of a whole captions_json stage; what is none is an InputError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with stage.reader(0) as reader:
        path, samples = reader.path, reader.index.samples
        if not samples or "parquet" not in samples[0].files:
            raise _no_table(path, "it holds none")
        try:
            with LargeFile(reader, samples[0], "parquet") as raw, pq.ParquetFile(raw) as file:
                if not file.schema_arrow.equals(schema()):
                    raise _no_table(path, f"its columns are {', '.join(file.schema_arrow.names)}")
                yield file
        except (pa.ArrowException, UnicodeDecodeError, OSError) as e:
            not_trouble(path, e)
            raise _no_table(path, e) from e


def _full(table):
    """A table, of which every cell holds something."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in table.column_names:
        column = table.column(name)
        if column.null_count or (pa.types.is_list(column.type) and pc.list_flatten(column).null_count):
            raise pa.ArrowInvalid(f"a cell of its column {name} is empty")
    return table


def _no_table(path, why: object) -> InputError:
    return InputError(f"{path}: its captions.parquet cannot be read ({why}); move the unit away and run the command that made its stage")


def rows(stage, start: int, stop: int) -> list[CaptionRow]:
    """Rows [start, stop) of a whole captions_json stage, as far as there are any."""
    return list(rows_at(stage, range(start, stop)).values())


def rows_at(stage, numbers: Iterable[int]) -> dict[int, CaptionRow]:
    """number -> row of a whole captions_json stage, as far as there are any; reads only the row groups that hold them."""
    by_number = {}
    with _opened(stage) as file:
        wanted = sorted({n for n in numbers if 0 <= n < file.metadata.num_rows})
        for group, part in groupby(wanted, key=lambda n: n // ROW_GROUP):
            table = _full(file.read_row_group(group, use_threads=False))
            for r in table.take([n - group * ROW_GROUP for n in part]).to_pylist():
                by_number[r["row"]] = CaptionRow(
                    r["row"],
                    r["caption"],
                    r["class"],
                    r["label"],
                    tuple(r["labels"]),
                    tuple(r["label_names"]),
                    r["seed"],
                    r["slot"],
                    r["source"],
                )
    return by_number


def labels_and_seeds(stage) -> tuple[list[int], list[int]]:
    """Two columns of a whole captions_json stage, of all rows."""
    with _opened(stage) as file:
        table = _full(file.read(columns=["label", "seed"], use_threads=False))
    return table.column("label").to_pylist(), table.column("seed").to_pylist()
