"""What HDF5 files hold of the samples of a stage, as its kind says."""

from collections.abc import Iterable, Mapping, Sequence

from synth.export.hdf5.layouts import Item
from synth.kinds import h5_items
from synth.reading.sample import StageSample
from synth.reading.stage import ROLE, StageReader
from synth.store.folder import StageFolder

Contents = Iterable[tuple[StageSample, Sequence[Item]]]  # each picture with what a file holds of it, itself last


class PictureItems:
    """What a file holds of the pictures of a stage: each under its key. Another kind of stage names its own (synth.kinds)."""

    how_to_read = ""  # for the card, where the names or the contents differ
    keyed_only = ""  # why it is held by keyed files alone; "" if packed ones hold it, too

    @staticmethod
    def reader(stage: StageFolder, check: bool = True) -> StageReader:
        """Of the samples with their pictures."""
        return StageReader(stage, check=check)

    def __init__(self, stage: StageReader):
        self._stage = stage

    def of(self, pictures: Iterable[StageSample], slots: range) -> Contents:
        for picture in pictures:
            label, caption = self._stage.label_of(picture.key, picture.metadata), picture.fact("caption")
            yield picture, [Item(f"{picture.key}.{picture.ext}", picture.key, picture.size, picture.read, label, caption, picture.digest)]

    def record(self, picture: StageSample) -> Mapping:
        return picture.metadata

    def n_datasets(self, slots: Sequence[int]) -> int:
        """How many pictures a file of these slots holds."""
        return len(slots)

    def card(self, folder: StageFolder, datasets: int, samples: int, size: int, how_to_read: str) -> bytes | None:
        """The card of an export of so many datasets and samples; None: the usual one."""
        return None

    def close(self) -> None: ...


def items_of(stage: StageReader) -> PictureItems:
    """What HDF5 files hold of the samples of a stage, as its kind says."""
    return h5_items(stage.stage.spec.kind)(stage)


def reader_of(stage: StageFolder, check: bool = True) -> StageReader:
    """The samples of a stage with their pictures, as its kind says where these are."""
    return h5_items(stage.spec.kind).reader(stage, check)


def n_datasets(parts: StageFolder, start: int, stop: int) -> int:
    """How many pictures the files of these slots hold."""
    return items_of(StageReader(parts.upstream(ROLE)[0])).n_datasets([s.slot for s in parts.samples(start, stop)])


def n_recorded(parts: StageFolder, start: int, stop: int) -> int:
    """The same by the records of the partitions, where the stage of the pictures is gone."""
    return sum(1 + ("original" in s.json()) for s in parts.samples(start, stop))
