"""Which annotations of an image become objects that are kept. Pure; planning and workers share it."""

from collections.abc import Mapping, Sequence


def usable(area: float, iscrowd: int | bool | None, min_area: float, max_area: float) -> bool:
    """OVTrack's rule: no crowd, and larger than what latents can hold."""
    return not iscrowd and min_area < area < max_area


def objects_of(annotations: Sequence[Mapping], min_area: float, max_area: float) -> list[Mapping]:
    """The annotations that are kept as objects, largest first, equal ones by id."""
    kept = [a for a in annotations if usable(a["area"], a.get("iscrowd", 0), min_area, max_area)]
    return sorted(kept, key=lambda a: (-a["area"], a["id"]))


def variant_name(file_name: str, variant: int) -> str:
    """What a variant of an image is called: "train2017/000000391895.jpg" -> "000000391895_v0.jpg"."""
    return f"{stem(file_name)}_v{variant}.jpg"


def base_name(file_name: str) -> str:
    """The key of an image in a keyed HDF5 file: its name without folders."""
    return file_name.rpartition("/")[2]


def stem(file_name: str) -> str:
    name = base_name(file_name)
    return name.rpartition(".")[0] or name
