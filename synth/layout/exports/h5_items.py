"""What a keyed HDF5 file holds of layout labels: each picture, and before it its record as JSON."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from synth.export.hdf5.items import PictureItems
from synth.export.hdf5.layouts import Item
from synth.export.sources import FACTS
from synth.layout.exports.card import Counts, labels_card, reasons_of
from synth.layout.exports.reading import Labelled, LabelReader
from synth.layout.records import Record
from synth.store.folder import StageFolder
from synth.store.spec import canonical

READ = """- `images.h5`: of each picture a dataset `<key>.<ext>` that holds the bytes of its file (uint8), as mmcv's hdf5 backend reads \
them, and `<key>.json`, its labels:
  `json.loads(numpy.array(h5py.File("images.h5")["000000012.json"]).tobytes())["annos"]`. `manifest.parquet` has a row for each of both."""


class LabelItems(PictureItems):
    """As synth.export.hdf5.items.PictureItems, of a stage of layout labels."""

    how_to_read = READ
    keyed_only = "layout labels are many a picture, and no class"

    @staticmethod
    def reader(stage: StageFolder, check: bool = True) -> LabelReader:
        return LabelReader(stage)

    def of(self, pictures: Iterable[Labelled], slots: range) -> Iterator[tuple[Labelled, list[Item]]]:  # type: ignore[override]
        for picture in pictures:
            data, name = canonical(_told(picture.metadata)), f"{picture.key}.json"
            labels = Item(name, name, len(data), lambda data=data: data)
            yield picture, [labels, Item(f"{picture.key}.{picture.ext}", picture.key, picture.size, picture.read, digest=picture.digest)]

    def n_datasets(self, slots: Sequence[int]) -> int:
        return 2 * len(slots)

    def card(self, folder: StageFolder, datasets: int, samples: int, size: int, how_to_read: str) -> bytes:
        (parts,), counts = folder.upstream("parts"), Counts()
        for stored in parts.samples():
            record = stored.json("sha256")
            where = f"{parts.unit_path(stored.unit)}: sample {stored.key}"
            counts.add(Record.of_json(record, where), record["sha256"] != record.get("source_sha256"))
        counts.left_out = reasons_of(parts)
        return labels_card(folder, counts, size, how_to_read)


def _told(record: Mapping) -> dict:
    """A record without what is said of its file, which is beside it."""
    return {k: v for k, v in record.items() if k not in FACTS}
