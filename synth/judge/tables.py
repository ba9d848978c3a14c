"""All points as one table for programs: a row a point, a column a number."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synth.judge.reading import Point, shown

ENDS = ("value", "low", "high")


def parquet(groups: Sequence[Sequence[Point]]) -> bytes:
    """The file. group: points of one number were measured alike. Columns: `key.*` tell points apart, then
    `made_accuracy`, `made_accuracy_low`, .. of probes, and `number.*`. Their prefixes keep names that others chose from each other's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [row(point, number) for number, group in enumerate(groups) for point in group]
    names = list(dict.fromkeys(name for r in rows for name in r))
    table = pa.table({name: pa.array([r.get(name) for r in rows]) for name in names})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def row(point: Point, group: int = 0) -> dict[str, Any]:
    """column -> value of a point."""
    facts = point.facts
    columns: dict[str, Any] = {"point": point.label, "group": group, "name": facts["name"], "features": facts["features"]}
    columns |= {f"key.{key}": shown(value) for key, value in point.keys.items()}
    columns |= {f"{name}_pictures": n["pictures"] for name, n in facts["sets"].items()}
    for what, probe in facts["probes"].items():
        for number in ("accuracy", "knn", "calibration_error", "finetune", "finetune_calibration_error"):
            columns |= dict(_ends(f"{what}_{number}", probe.get(number, {})))
    for name, number in facts["numbers"].items():
        columns |= dict(_ends(f"number.{name}", number))
    columns |= {f"duplicates_{where}": facts["duplicates"][where] for where in ("within", "between")}
    return columns | ({"leaks": facts["leaks"]["pictures"]} if facts["leaks"] else {})


def _ends(name: str, number: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for end in ENDS:
        if number.get(end) is not None:
            yield (name if end == "value" else f"{name}_{end}"), float(number[end])
