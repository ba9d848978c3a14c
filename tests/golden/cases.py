"""The commands that are run, in order. Later ones find the stages of earlier ones in the same runs_dir.

Classes and templates are few, pictures are 16 x 16 pixels, a picture has two steps: the bytes count, not the looks. Keys that
the points of a sweep do not share stand in conf/, a folder for --config-dir. Paths are relative to the root of the repository.
"""

from dataclasses import dataclass

GIVEN = "tests/golden/given"
CONF = "tests/golden/conf"
RUNS, CLIP = "{runs}", "{clip}"  # put in when a case is run
PICTURES = "{class_name:pictures/images}"  # the folder of a stage of an earlier case, by case and label


@dataclass(frozen=True)
class Case:
    """`floats`: names of the stages that a float model makes. They and all that reads them are compared on a known CPU."""

    name: str
    words: tuple[str, ...]
    cluster: str = "debug"  # debug: one process for all stages of the command | local: workers
    floats: tuple[str, ...] = ()


SMALL = ("dataset.classes=0..2", "captions.unit_size=4", "captions.window=4")
FEW = ("captions.total=5", "captions.allow_short=true")
SIZE = ("images.height=16", "images.width=16", "images.unit_size=4", "images.batch_size=2")
DRAWN = (
    *SMALL,
    *SIZE,
    "model=external",
    f"model.command=[python3,{GIVEN}/draw.py]",
    "model.deterministic=true",
    "images.per_caption=2",
)
CLASS_NAME = ("prompts=class_name", 'prompts.templates=["a photo of a {}","a drawing of a {}"]', *DRAWN)
OWN = (
    "prompts=from_file",
    f"prompts.file={GIVEN}/own.csv",
    "prompts.check=true",
    "captions.allow_short=true",
    "captions.max_attempts=1",
    *DRAWN,
)

CASES = (
    Case(
        "probe",
        (
            "-m",
            "recipe=probe",
            "dataset.name=probe_${probe.framing}",
            "probe.framing=tar,jsonl",
            "probe.slots=10",
            "probe.unit_size=4",
            "probe.batch_size=2",
            "probe.behaviour={3:{tombstone:asked},5:{size:7}}",
        ),
        cluster="local",
    ),
    Case(  # every export of pictures of classes
        "class_name",
        (
            *CLASS_NAME,
            "export=[image_folder,webdataset,parquet,captions_txt,hdf5,contact_sheet]",
            "export.webdataset.shard=5",
            "export.parquet.shard=5",
            "export.hdf5.partition=5",
            "export.contact_sheet.columns=2",
            "export.contact_sheet.tile=24",
        ),
    ),
    Case(  # filters without a model, and exports with other settings
        "filtered",
        (
            *CLASS_NAME,
            "filter=[near_duplicates,balance]",
            f"filter.near_duplicates.against={GIVEN}/against",
            "filter.balance.count=2",
            "export=[image_folder,webdataset,parquet,hdf5]",
            "export.image_folder.names=nested",
            "export.image_folder.val_share=0.5",
            "export.webdataset.shuffle=false",
            "export.parquet.shuffle=true",
            "export.hdf5.layout=packed",
            "export.hdf5.content=pixels",
            "export.hdf5.gzip=4",
        ),
    ),
    Case(  # captions and pictures that are refused
        "from_file",
        (
            *OWN,
            "seed=3",
            "images.format=webp",
            "export=[image_folder,hdf5]",
            "export.image_folder.names=number",
            "export.hdf5.layout=packed",
        ),
    ),
    Case(  # makers that ask no model
        "silent",
        (
            "-m",
            f"--config-dir={CONF}",
            "prompts=golden_fake_it,golden_fake_definition",
            *SMALL,
            "captions.allow_short=true",
            "until=captions_json",
        ),
    ),
    Case(  # makers that ask a model, here a server of ours
        "served",
        (
            "-m",
            f"--config-dir={CONF}",
            "prompts=golden_synclr_group,golden_synclr_chat,golden_synthclip,golden_hirpg,golden_hirpg_dynamic",
            *SMALL,
            *FEW,
            "captioner=served",
            "captioner.api=chat",
            "captioner.model=answers",
            f'captioner.command=[python3,{GIVEN}/server.py,"{{port}}"]',
            "until=captions_json",
        ),
    ),
    Case(  # the embedded language model
        "llama",
        (
            "dataset.name=llama",
            *SMALL,
            *FEW,
            "captioner.max_gen_len=24",
            "export=[captions_txt]",
            "only=[captions,captions_json,captions_txt]",
        ),
        floats=("captions",),
    ),
    Case(  # everything that the embedded diffusion model draws, and all that CLIP scores
        "diffusion",
        (
            "-m",
            f"--config-dir={CONF}",
            "recipe=golden_tiny,golden_ensemble,golden_img2img,golden_story,golden_tracking",
            f"img2img.source={PICTURES}",
            *SIZE,
            "images.steps=2",
            f"features.model={CLIP}",
            "features.unit_size=5",
            "features.batch_size=4",
        ),
        floats=("images", "img2img", "story", "pairs", "features", "ensemble_features"),
    ),
)
