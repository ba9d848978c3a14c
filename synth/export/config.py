"""Keys of exports. The key in `export` is the name of an export's stage."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from synth.keys import key, later, plan_key
from synth.store.spec import StageSpec

KEYED, PACKED, BYTES, PIXELS = "keyed", "packed", "bytes", "pixels"  # layouts of an HDF5 file, and what a packed one holds
OUT = "runs/<dataset>/exports/<name>-<hash>, with a latest link"


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What every export has. A place that the user chose is stored (what and where), so that two places are two exports."""

    kind: str = plan_key("kind of stage")
    out: str = key("folder", null=OUT)  # stored as "" where the place is the stage's own

    form: int = later(factory=int, sparse=True)  # which bytes it writes: `newest` when it was planned

    has_card: ClassVar[bool] = False  # whether it writes a dataset card, which tells the command

    @property
    def newest(self) -> int:
        """Raised when the same settings come to write other bytes: then they are another stage, and none is of two kinds."""
        return 0

    @property
    def reads(self) -> str:
        """The kind of a stage that is made for it alone of what it exports, and that it reads in a role of this name; "" for none."""
        return ""

    def units(self, images: StageSpec) -> tuple[int, int]:
        """(slots, slots a unit) of an export of these images; here all in one go."""
        return 1, 1

    def settled(self) -> Self:
        """With the fields that planning fills."""
        return replace(self, form=self.newest)


@dataclass(frozen=True, kw_only=True)
class ImageFolderConfig(ExportConfig):
    """A slot is a slot of the images, a unit covers one of theirs: a killed export goes on where it was."""

    names: str = key(
        "key: <class>/<key>.png | number: <class>/00000123.png | nested: 000000/000000/00123.png, as SynCLR's txt2img",
        choices=("key", "number", "nested"),
    )
    val_share: float = key(
        "share of the captions of each class whose pictures go to val/, the others to train/; 0: neither", low=0, below=1
    )
    split_seed: int = key("draws who goes where")
    link_from: str = plan_key(
        "folder of an ImageFolder of the same pictures: files become second names of its files where the disk can", null="none"
    )

    has_card = True

    @property
    def newest(self) -> int:
        return 1 if self.val_share else 0  # 1: drawn within each class

    def units(self, images: StageSpec) -> tuple[int, int]:
        return images.slots, images.unit_size


@dataclass(frozen=True, kw_only=True)
class ShardedConfig(ExportConfig):
    """A slot is a position in the order, a unit a file."""

    shard: int = plan_key("slots a file: fewer pictures where some have none", low=1)
    shuffle: bool = plan_key("true: in an order drawn by seed | false: in the order of the captions")
    seed: int = plan_key("of the order")
    shuffle_seed: int = later(-1)  # -1: in the order of the slots

    has_card = True

    def units(self, images: StageSpec) -> tuple[int, int]:
        return images.slots, max(1, min(self.shard, images.slots))

    def settled(self) -> Self:
        return replace(super().settled(), shuffle_seed=self.seed if self.shuffle else -1)


@dataclass(frozen=True, kw_only=True)
class WebDatasetConfig(ShardedConfig):
    @property
    def newest(self) -> int:
        return 1  # 1: with captions as files of their own


@dataclass(frozen=True, kw_only=True)
class ParquetConfig(ShardedConfig): ...


@dataclass(frozen=True, kw_only=True)
class CaptionsTxtConfig(ExportConfig): ...


@dataclass(frozen=True, kw_only=True)
class Hdf5Config(ExportConfig):
    """kind "hdf5": one unit of one slot, the file that is merged from what the stage of its partitions made."""

    layout: str = plan_key(
        "keyed: <key>.<ext> -> its bytes, as mmcv and OVTrack read | packed: images, labels, captions, keys", choices=(KEYED, PACKED)
    )
    content: str = plan_key("of packed files: bytes: encoded, as they are | pixels: uint8 N,H,W,3, decoded", choices=(BYTES, PIXELS))
    gzip: int = plan_key("0..9: level at which chunks of pixels are packed", low=0, high=9)
    partition: int = plan_key("pictures a partition file: what one job writes in one go", low=1)

    has_card = True


@dataclass(frozen=True)
class Hdf5PartsConfig:
    """kind "hdf5_parts": a partition file a unit; a slot is a slot of the images; batch = unit. As the keys of export.hdf5."""

    layout: str
    content: str
    gzip: int


@dataclass(frozen=True, kw_only=True)
class ContactSheetConfig(ExportConfig):
    columns: int = key("pictures a class", low=1)
    tile: int = key("pixels of a picture on the sheet", low=1)
    max_classes: int = key("rows; more classes are sampled evenly", low=1)
