"""Sample configs of exports."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageFolderConfig:
    """kind "image_folder": upstream role "images". A slot is a slot of the images stage."""

    out: str = ""
    names: str = "key"  # key | number | nested; see synth.export.image_folder.file_name
    val_share: float = 0.0  # share of the pictures in val/, the rest in train/; 0 = neither
    split_seed: int = 0


@dataclass(frozen=True)
class WebDatasetConfig:
    """kind "webdataset": upstream role "images". A slot is a position in the shuffled order, a unit a shard."""

    out: str = ""
    shuffle_seed: int = 0  # -1 = in the order of the slots


@dataclass(frozen=True)
class ParquetConfig:
    """kind "parquet": upstream role "images". A unit is a file."""

    out: str = ""
    shuffle_seed: int = -1


@dataclass(frozen=True)
class CaptionsTxtConfig:
    """kind "captions_txt": one unit that holds captions.txt. upstream role "captions": captions_json."""

    out: str = ""


@dataclass(frozen=True)
class Hdf5PartsConfig:
    """kind "hdf5_parts": a partition file a unit. upstream role "images". A slot is a slot of the images; batch = unit."""

    layout: str = "keyed"  # keyed | packed
    content: str = "bytes"  # bytes | pixels (packed only)
    gzip: int = 0  # level of the pixels' chunks; 0 = none


@dataclass(frozen=True)
class Hdf5Config:
    """kind "hdf5": one unit of one slot, the merged file. upstream roles "parts": hdf5_parts, "images": what they were made of."""

    out: str = ""


@dataclass(frozen=True)
class ContactSheetConfig:
    """kind "contact_sheet": one PNG, a row a class, captions below. upstream role "images"."""

    out: str = ""
    columns: int = 8  # pictures a class
    tile: int = 96  # pixels of a picture on the sheet
    max_classes: int = 40
