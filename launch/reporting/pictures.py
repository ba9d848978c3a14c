"""The pictures that a report shows: some of each class, points of a sweep side by side, what filters kept and took out. Few, and small."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from launch.reporting.stages import StageFacts
from synth.errors import InputError, StoreError
from synth.export.page_parts import thumbnail
from synth.kinds import KINDS, PICTURES
from synth.reading.sample import StageSample
from synth.reading.stage import ROLE, StageReader
from synth.redaction import redacted
from synth.store.folder import StageFolder
from synth.store.framing import shared
from synth.store.trees import decoded

SIDE, QUALITY = 112, 80  # pixels of a picture's longer side, and of the JPEG of one that was larger
MOST = 10_000  # bytes of a PNG: noise does not shrink, and a page has some hundred pictures
GALLERIES, CLASSES, EACH = 3, 20, 4  # stages, classes of each, pictures of a class
WINDOWS, WINDOW = 200, 64  # places of a stage that are looked at, slots of each
SWEEPS, POINTS, ROWS = 2, 8, 8  # groups of stages, stages of each, rows
FILTERS, UNITS, REASONS, EXAMPLES = 4, 40, 5, 4  # filters, units of each that are looked at, reasons, pictures of each reason
LARGEST = 1 << 26  # bytes of a picture file that is decoded for a report
THREADS = 4

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Shown:
    """A picture of a report. data: a small PNG or JPEG, in the page alone; b"" where `why` says what is there instead."""

    stage: str  # folder
    slot: int
    key: str
    caption: str
    class_name: str
    seed: int | None
    why: str = ""
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Gallery:
    """Of a stage: pictures of its first classes."""

    stage: str
    classes: dict[str, tuple[Shown, ...]]
    of: int  # classes that the stage has


@dataclass(frozen=True)
class Row:
    """Pictures of one caption, one a point; None: that point has none there (yet)."""

    caption: str
    class_name: str
    seed: int | None  # None: the points' seeds differ
    cells: tuple[Shown | None, ...]


@dataclass(frozen=True)
class Sweep:
    """Stages of one name that differ in some keys. labels: of its columns; of: points that there are."""

    name: str
    labels: tuple[str, ...]
    stages: tuple[str, ...]
    rows: tuple[Row, ...]
    of: int


@dataclass(frozen=True)
class Decided:
    """What a filter did, with examples: reason -> pictures that it took out; kept: of those that stayed."""

    stage: str
    kept: tuple[Shown, ...]
    taken_out: dict[str, tuple[Shown, ...]]


def galleries(stages: Sequence[StageFacts], tell: Tell) -> list[Gallery]:
    """Of the last stages with pictures: those that no filter, or other stage of pictures, reads."""
    drawn = [s for s in stages if PICTURES in _makes(s)]
    read = {up for s in drawn for up in s.upstream}
    last = [s for s in drawn if s.path not in read and s.committed]
    return [gallery for s in last[:GALLERIES] for gallery in _tried(lambda s=s: _gallery(s), tell)]


def sweeps(stages: Sequence[StageFacts], tell: Tell) -> list[Sweep]:
    """Groups of stages that drew the same captions with other settings."""
    drawn = sorted((s for s in stages if PICTURES in _makes(s) and not KINDS[s.kind].chooses), key=lambda s: (s.dataset, s.name))
    groups = [list(group) for _, group in groupby(drawn, key=lambda s: (s.dataset, s.name))]
    many = [group for group in groups if len(group) > 1]
    return [sweep for group in many[:SWEEPS] for sweep in _tried(lambda group=group: _sweep(group), tell)]


def decisions(stages: Sequence[StageFacts], tell: Tell) -> list[Decided]:
    """Of filters of pictures."""
    filters = [s for s in stages if PICTURES in _makes(s) and KINDS[s.kind].chooses and KINDS[s.kind].group and s.committed]
    return [d for s in filters[:FILTERS] for d in _tried(lambda s=s: _decided(s), tell)]


def _makes(stage: StageFacts) -> tuple[str, ...]:
    return KINDS[stage.kind].makes if stage.kind in KINDS else ()


def _tried(make: Callable, tell: Tell) -> Iterator:
    """What it makes, unless that cannot be read: then it is told."""
    try:
        yield make()
    except (InputError, StoreError, OSError) as e:
        tell(str(e))


def _gallery(stage: StageFacts) -> Gallery:
    """Its first classes that are met, in the order of the dataset."""
    reader = StageReader(StageFolder.open(stage.path))
    classes = reader.classes
    found: dict[str, list[StageSample]] = {}
    for sample in _looked_at(reader):
        label = sample.metadata.get("label")
        name = classes.get(label, "") if isinstance(label, int) else str(sample.metadata.get("class") or "")
        if (name in found or len(found) < CLASSES) and len(found.setdefault(name, [])) < EACH:
            found[name].append(sample)
        elif sum(map(len, found.values())) == EACH * min(CLASSES, max(1, len(classes))):
            break
    order = {name: at for at, name in enumerate(dict(sorted(classes.items())).values())}
    by_class = {name: tuple(_shown(stage, found[name])) for name in sorted(found, key=lambda name: (order.get(name, len(order)), name))}
    return Gallery(stage.folder, by_class, max(len(classes), len(found)))


def _looked_at(reader: StageReader) -> Iterator[StageSample]:
    """The samples of some windows of slots, evenly over all of them; units that are not there (yet) are passed over."""
    n = min(WINDOWS, -(-reader.slots // WINDOW))
    for start in (reader.slots * i // n for i in range(n)):
        try:
            yield from reader.samples(start, start + WINDOW)
        except InputError as e:
            if not _not_there(e):
                raise


def _not_there(error: BaseException | None) -> bool:
    """Whether a unit could not be read because there is none."""
    while error is not None and not isinstance(error, FileNotFoundError):
        error = error.__cause__
    return error is not None


def _sweep(group: Sequence[StageFacts]) -> Sweep:
    points = group[:POINTS]
    readers = [StageReader(StageFolder.open(s.path)) for s in points]
    rows: list[Row] = []
    seen: set[str] = set()
    most = max(range(len(points)), key=lambda at: points[at].committed)  # a point that is half done shows what the others have, too
    for sample in _looked_at(readers[most]):
        name = str(sample.metadata.get("class") or "")
        if name in seen and name:
            continue  # as many classes as there is room for
        if (row := _row(sample, points, readers)) is not None:
            seen.add(name)
            rows.append(row)
        if len(rows) == ROWS:
            break
    return Sweep(points[0].name, tuple(s.differs_by for s in points), tuple(s.folder for s in points), tuple(rows), len(group))


def _row(sample: StageSample, points: Sequence[StageFacts], readers: Sequence[StageReader]) -> Row | None:
    """The pictures of a slot, where it is of the same caption in two points at least."""
    caption = sample.metadata.get("caption")
    cells: list[Shown | None] = []
    seeds = set()
    for stage, reader in zip(points, readers, strict=True):
        cell = None
        if sample.slot < reader.slots and (there := _got(reader, sample.slot)) and there.metadata.get("caption") == caption:
            [cell] = _shown(stage, [there])
            seeds.add(cell.seed)
        cells.append(cell)
    if sum(c is not None for c in cells) < 2:
        return None
    seed = seeds.pop() if len(seeds) == 1 else None
    return Row(redacted(str(caption or ""), caption=True), str(sample.metadata.get("class") or ""), seed, tuple(cells))


def _got(reader: StageReader, slot: int) -> StageSample | None:
    try:
        return reader.get(slot)
    except InputError as e:
        if not _not_there(e):
            raise
        return None


def _decided(stage: StageFacts) -> Decided:
    folder = StageFolder.open(stage.path)
    behind = StageReader(folder.upstream(ROLE)[0]) if len(folder.upstream(ROLE)) == 1 else None
    kept: list[StageSample] = []
    gone: dict[str, list[StageSample]] = {reason: [] for reason in list(stage.empty.reasons)[:REASONS]}
    for unit in sorted(folder.committed())[:UNITS]:
        with folder.reader(unit) as reader:
            index = reader.index
        for slot, reason in index.tombstones.items():
            examples = gone.get(redacted(shared(reason)))
            if behind and examples is not None and len(examples) < EXAMPLES and (there := _got(behind, slot)):
                examples.append(there)
        for entry in index.samples:
            if len(kept) == EXAMPLES:
                break
            if behind and (there := _got(behind, entry.slot)):
                kept.append(there)
        if len(kept) == EXAMPLES and all(len(e) == EXAMPLES for e in gone.values()):
            break
    return Decided(stage.folder, tuple(_shown(stage, kept)), {reason: tuple(_shown(stage, samples)) for reason, samples in gone.items()})


def _shown(stage: StageFacts, samples: Iterable[StageSample]) -> list[Shown]:
    """Pictures of samples, scaled down by a few threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda sample: _one(stage, sample), samples))


def _one(stage: StageFacts, sample: StageSample) -> Shown:
    name = Path(stage.path).name
    try:
        facts = sample.metadata
        shown = Shown(
            name,
            sample.slot,
            sample.key,
            redacted(str(facts.get("caption") or ""), caption=True),
            str(facts.get("class") or ""),
            seed if type(seed := facts.get("seed")) is int else None,
        )
    except (InputError, StoreError, OSError) as e:
        return Shown(name, sample.slot, sample.key, "", "", None, f"cannot be read: {e}")
    try:
        if sample.size > LARGEST:
            return replace(shown, why=f"of {sample.size:,} bytes: too large to be shown here")
        data = small(sample.read())
    except (InputError, StoreError, OSError, ValueError) as e:
        return replace(shown, why=f"cannot be shown: {e}")
    return replace(shown, data=data)


def small(picture: bytes) -> bytes:
    """The file of a picture as the page shows it."""
    image = decoded(picture, "RGB")
    data, ext = thumbnail(image, SIDE, QUALITY)
    if ext == "png" and len(data) > MOST:
        out = io.BytesIO()
        image.save(out, "JPEG", quality=QUALITY)
        return out.getvalue()
    return data
