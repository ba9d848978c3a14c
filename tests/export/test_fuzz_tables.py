"""Mutants of the Parquet files that are read again: an export's manifest, and the table of captions inside its unit."""

import contextlib
import hashlib
import io
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synth.captions import table
from synth.captions.table import CaptionRow
from synth.errors import InputError
from synth.export.base import CARD, CLASSES, Export
from synth.export.manifest import MANIFEST, ManifestWriter, row_of
from synth.run.findings import Check, Findings
from tests.mutants import mutants, of_bytes

RECORDS = [
    {"key": f"{k:09d}", "file_name": f"cat/{k:09d}.png", "class": "cat", "label": 0, "caption": f"caption {k}", "seed": k, "slot": k}
    | {"width": 8, "height": 8, "bytes": 100 + k, "sha256": f"{k:064x}"}
    for k in range(40)
]
ROWS = [CaptionRow(k, f"caption {k}", "cat", 0, (0,), ("cat",), k, k, "0123456789ab") for k in range(40)]


def test_a_mutant_of_a_manifest_is_wrong_or_says_the_same(tmp_path):
    writer = ManifestWriter(tmp_path / MANIFEST)
    for record in RECORDS:
        writer.add(row_of(record, 0))
    writer.close()
    (tmp_path / CLASSES).write_bytes(b"classes")
    (tmp_path / CARD).write_bytes(b"card")
    stage = SimpleNamespace(
        lists=lambda: {CLASSES: b"classes"}, records=lambda mend: iter(RECORDS), pictures=SimpleNamespace(unit_of=lambda slot: 0)
    )
    data, wrong = (tmp_path / MANIFEST).read_bytes(), 0
    for seed in mutants(60):
        (tmp_path / MANIFEST).write_bytes(of_bytes(data, seed))
        for deep in (False, True):
            findings = Findings(str(tmp_path), "image_folder", deep)
            Export.verify_beside(stage, Check(tmp_path, deep, findings), len(RECORDS))
            assert all(MANIFEST in str(p) for p in findings.problems), seed
            wrong += bool(findings.problems)
    assert wrong


def _stage_of(path, data: bytes) -> SimpleNamespace:
    """What reads a table of captions: a stage whose only unit is these bytes."""
    path.write_bytes(data)
    entry = SimpleNamespace(files={"parquet": (0, len(data))}, sha256=hashlib.sha256(data).hexdigest())
    blocks = lambda entry, ext, size: (data[at : at + size] for at in range(0, len(data), size))  # noqa: E731
    reader = SimpleNamespace(path=path, index=SimpleNamespace(samples=(entry,)), blocks=blocks)
    return SimpleNamespace(reader=lambda number: contextlib.nullcontext(reader))


@pytest.mark.parametrize(("column", "values"), [("caption", [None]), ("labels", [None]), ("labels", [[None]]), ("seed", [None])])
def test_a_table_of_captions_with_an_empty_cell_is_refused_by_name(tmp_path, column, values):
    whole = pq.read_table(io.BytesIO(table.to_parquet(ROWS[:1])))
    at = whole.schema.get_field_index(column)
    out = io.BytesIO()
    pq.write_table(whole.set_column(at, whole.schema.field(at), pa.array(values, whole.schema.field(at).type)), out)
    with pytest.raises(InputError, match=f"000000.tar: .*a cell of its column {column} is empty"):
        table.rows(_stage_of(tmp_path / "000000.tar", out.getvalue()), 0, 1)


def test_a_mutant_of_a_table_of_captions_gives_rows_of_its_columns_or_is_refused_by_name(tmp_path):
    path, data, read = tmp_path / "000000.tar", table.to_parquet(ROWS), 0
    for seed in mutants(60):
        mutant = of_bytes(data, seed)
        try:
            rows = table.rows(_stage_of(path, mutant), 0, 40)
        except InputError as e:
            assert "000000.tar" in str(e), seed
            continue
        read += 1
        assert all(isinstance(r.caption, str) and isinstance(r.label, int) for r in rows), seed
    assert read
