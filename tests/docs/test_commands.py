"""Every command line of README.md and docs/*.md is read, mapped to small files, and planned or run. One that cannot be mapped fails.

`synthset run` lines are composed and planned in this process, up to the scripts for sbatch: models, pictures and texts that they name
are tiny ones of the same form. The lines in WHOLE run as a user would. Tools run on small files. CHECKED says what cannot run here.
"""

import contextlib
import importlib
import itertools
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from synth.store.names import folder_name
from tests.docs.pages import PAGES, ROOT, Command, commands, prose
from tests.test_floors import FLOORS

COMMANDS = [c for page in PAGES for c in sorted(commands(page), key=lambda c: c.line)]
WORDS = 900  # of README.md, outside code blocks
SECRET = "a-key-of-this-test"

# lines that run to their end, as a user runs them: text -> settings that make them short
WHOLE = {
    "python launch/run.py recipe=probe probe.slots=64 probe.sleep=0.1": ["probe.sleep=0"],
    "python launch/export.py runs/pictures/images-0123456789ab 'export=[parquet]'": [],
}
# programs and modules that cannot run here -> why; they are checked as far as `checked` can
CHECKED = {
    "make": "installs and runs everything: `make -n` says that the target is there (make run: tests/test_main_job.py)",
    "sbatch": "needs a cluster: bash reads the script, and its stage is there (tests/slurm runs it)",
    "pip": "downloads: the extras are those of setup.cfg",
    "tests.bench": "takes minutes: the module is there and has the options",
    "tests.gpu": "needs a GPU: the module is there",
    "bash": "needs a GPU: bash reads the script, which knows the word behind it",
    "pytest": "runs tests: the folder and the markers are there",
    "synth.tracking.old_results": "reads files of OVTrack's own scripts: the options are read (tests/tracking/test_old_results.py runs it)",
    "venv": "makes another environment and downloads vLLM",
    "nltk.downloader": "downloads WordNet",
}
FOREIGN = ("vllm", "sentencepiece", "transformers[serving]", "pillow-heif")  # packages of others that pages tell to install


def test_the_readme_is_read_in_three_minutes():
    words = prose((ROOT / "README.md").read_text(encoding="utf-8")).split()
    assert len(words) <= WORDS, f"README.md has {len(words)} words outside code blocks"


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target} is not there"


def test_the_floors_of_the_page_are_those_that_the_test_holds():
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`(?:synth|launch).*?) \|", text.partition("## Floors")[2].partition("\n## ")[0], re.MULTILINE)
    floors = []
    for row in rows:
        first, *more = re.findall(r"`(.*?)`", row)
        floors.append((first, *(f"{first.partition('.')[0]}{name}" for name in more)))
    assert tuple(floors) == FLOORS


@pytest.mark.parametrize("command", COMMANDS, ids=[f"{c.page}:{c.line}:{n}" for n, c in enumerate(COMMANDS)])
def test_a_command_of_the_docs(command, place, monkeypatch):
    monkeypatch.chdir(place.path)
    for name, value in place.env(command).items():
        monkeypatch.setenv(name, value)
    program, words = place.read(command)
    place.do(program, words, command)


def test_the_lines_that_run_whole_are_there():
    assert set(WHOLE) <= {shown(c) for c in COMMANDS}


def test_the_python_of_the_readme(place, monkeypatch, capsys):
    monkeypatch.chdir(place.path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(place.small(code), {})  # noqa: S102 (our own page)
    assert len(capsys.readouterr().out.splitlines()) == place.slots


def shown(command: Command) -> str:
    """A command line without its comment."""
    return shlex.join(command.words)


# -- the place -------------------------------------------------------------------------------------------------------


class Place:
    """A folder in which what the pages name lies under small names, made when it is asked for."""

    slots = 6

    def __init__(self, path: Path):
        self.path, self._n = path, itertools.count()
        self._planned: set[tuple[str, ...]] = set()
        self.captions, self.table, self.images = self._stages()

    def env(self, command: Command) -> dict[str, str]:
        """What the page exported before the line, and the line's own."""
        before = [c for c in commands(ROOT / command.page) if c.line < command.line and c.argv[0] == "export"]
        given = dict(w.split("=", 1) for c in before for w in c.argv[1:]) | command.env
        return {k: SECRET if v == "..." else self.small(v) for k, v in given.items()} | {"CUDA_VISIBLE_DEVICES": ""}

    def read(self, command: Command) -> tuple[str, list[str]]:
        """The program in one form ("launch.run", "synth.worker", "make"), and its words as they are here."""
        program, *words = self._again(command)
        if program == "python" and words[0] == "-m":
            program, words = words[1], words[2:]
            if program == "launch":
                program, words = f"launch.{words[0]}", words[1:]
        elif program == "python":
            file = words[0].replace("<name>", "status")
            assert (ROOT / file).is_file(), f"{command}: {file} is not there"
            program, words = file.removesuffix(".py").replace("/", "."), words[1:]
        elif program == "synthset":
            program, words = (
                "launch" if words[0].startswith("-") else f"launch.{words[0]}",
                words if words[0].startswith("-") else words[1:],
            )
        return program.replace("<name>", "status"), [self.small(w) for w in words]

    def _again(self, command: Command) -> list[str]:
        """The words of a line; `...` stands for the settings of the line before it that has some."""
        words = list(command.argv)
        if command.argv[0] == "python" and words[1:3] == ["launch/run.py", "..."]:
            before = [c for c in commands(ROOT / command.page) if c.line < command.line and c.argv[1:2] == ("launch/run.py",)]
            words[2:3] = [w for w in before[-1].argv[2:] if not w.startswith("dry_run")]
        return words

    def small(self, text: str) -> str:
        """A text of the pages with the small files in the place of the large ones."""
        for pattern, make in SMALL:
            if found := re.search(pattern, text):
                value = make(self, found)
                text = text.replace(found[0], str(value))
        return text

    def out(self) -> Path:
        folder = self.path / f"out{next(self._n)}"
        folder.mkdir()
        return folder

    # -- what is done with a line ------------------------------------------------------------------------------------

    def do(self, program: str, words: list[str], command: Command) -> None:
        if shown(command) in WHOLE:
            self._whole(program, [*words, *WHOLE[shown(command)]])
        elif program.startswith("launch") and "--help" in words:
            self._help(program, words)
        elif program.startswith("launch."):
            name = program.removeprefix("launch.")
            assert name in LAUNCH, f"{command}: how is {program} checked? Add it to LAUNCH"
            LAUNCH[name](self, words)
        elif program in ("export", "."):
            self._shell(words, command)
        elif any(program == known or program.startswith(f"{known}.") for known in CHECKED):
            checked(program, words, command)
        else:
            assert program == "synth.worker" or program in TOOLS, f"{command}: cannot be mapped; add it to TOOLS, or to CHECKED with why"
            self._tool(program, words)

    def _whole(self, program: str, words: list[str]) -> None:
        done = subprocess.run(
            [sys.executable, ROOT / f"{program.replace('.', '/')}.py", *words],
            env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def _help(self, program: str, words: list[str]) -> None:
        from launch.__main__ import usage as commands_usage
        from launch.config.usage import usage

        assert len(usage() if program == "launch.run" else commands_usage()) > 500

    def _shell(self, words: list[str], command: Command) -> None:
        """`export NAME=VALUE` of a name that is read somewhere, or `. .venv/bin/activate`."""
        for word in words:
            name = word.partition("=")[0]
            assert word == ".venv/bin/activate" or name in read_names(), f"{command}: nothing reads {name}"

    def plan(self, words: list[str]) -> None:
        """Judge the words as run.py does, then compose and plan every point of them."""
        from launch.config.check import check
        from launch.config.compose import Composer, typed
        from launch.plan.graph import distinct, plan_point
        from launch.plan.outputs import check_outputs

        if tuple(words) in self._planned:  # on another page
            return
        line = check(words)
        values = [
            [f"{o.get_key_element()}={v}" for v in o.sweep_string_iterator()] if o.is_sweep_override() else [o.input_line]
            for o in line.overrides
        ]
        composer = Composer(line.args.config_dir)
        points = [plan_point(typed(composer.compose(list(given)))) for given in itertools.product(*values)]
        stages = distinct(points)
        assert stages
        check_outputs(stages)
        if points[0].cluster.kind == "slurm":
            self._scripts(stages, points[0].cluster)
        self._planned.add(tuple(words))

    def _scripts(self, stages, cluster) -> None:
        """bash reads what sbatch would get."""
        from launch.slurm.limits import Limits
        from launch.slurm.resources import resources_of
        from launch.slurm.scripts import scripts_of

        gate = resources_of(cluster, "gate", {})
        for stage in stages:
            texts = scripts_of(stage, resources_of(cluster, stage.spec.kind, stage.spec.config), gate, 2, Limits(), "python launch/run.py")
            for text in (texts.array, texts.gate):
                subprocess.run(["bash", "-n"], input=text, text=True, check=True, timeout=20)

    def export(self, words: list[str]) -> None:
        from launch.config.compose import Composer, typed
        from launch.export import ExportSession, stage_at

        session = ExportSession(stage_at(words[0]))
        session.check(words[1:])
        assert session.planned(typed(Composer().compose(words[1:])), "").stages

    def node(self, words: list[str]) -> None:
        from launch.local.sequence import in_order
        from launch.node import TRUST, read_machine
        from synth.store.folder import StageFolder

        machine, settings = read_machine(words, os.environ)
        assert machine.jobs(2)[1] == 2 * machine.total_nodes
        if TRUST in settings:
            assert in_order([StageFolder.open(w) for w in settings if w != TRUST], trust=True)
            return
        self.plan(settings)

    def prefetch(self, words: list[str]) -> None:
        from launch import prefetch

        where = [] if "SYNTHSET_MODELS" in os.environ else ["--to", str(self.path / "fetched")]
        assert prefetch.main([*words, *where, "--dry-run"]) == 0

    def looks(self, name: str, words: list[str]) -> None:
        """Commands that look at the runs folder and end by themselves."""
        assert importlib.import_module(f"launch.{name}").main([w for w in words if w != "--watch"]) == 0

    def doctor(self, words: list[str]) -> None:
        """Its options are read, and the settings planned (tests/launch/test_doctor_trial.py runs it)."""
        from launch.doctor import parser

        self.plan(parser().parse_known_args(words)[1])

    def report(self, words: list[str]) -> None:
        """Nothing is judged here (tests/launch/test_report.py runs it): the options are read."""
        from launch.report import FORMS, parser

        assert all(file.suffix in FORMS for file in parser().parse_args(words).out)

    def _tool(self, program: str, words: list[str]) -> None:
        if program in TOOLS:
            TOOLS[program](self)
        if program == "synth.worker":
            self._worker(words)
            return
        with contextlib.ExitStack() as stack:
            stack.callback(setattr, sys, "argv", sys.argv)
            sys.argv = [program, *words]
            if hasattr(module := importlib.import_module(program), "main"):
                assert module.main(words) == 0
            else:
                stack.enter_context(contextlib.suppress(SystemExit))
                runpy.run_path(module.__file__, run_name="__main__")

    def _worker(self, words: list[str]) -> None:
        """The worker on a stage that needs no model, whatever stage the page names."""
        from synth.run.loop import Worker
        from synth.worker import parser
        from tests.stages import probe

        args = parser().parse_args([{"I": "0", "N": "1"}.get(w, w) for w in words])
        folder = probe(self.out() / "runs" / "probe")
        assert Worker(folder, args.job_idx, args.n_jobs).run() == 0 and folder.is_whole()

    # -- what the pages name -----------------------------------------------------------------------------------------

    def _stages(self):
        """captions, captions_json and images stages that are whole, made without a model; runs/pictures and runs/pacs."""
        from tests.fixtures_images import CLASSES, captions_json_stage, captions_stage, work
        from tests.verify.conftest import images_of, picture

        root = self.path / "runs" / "pictures"
        captions = captions_stage(root, [f"a picture of {CLASSES[k % 5]} number {k}" for k in range(self.slots)])
        table = captions_json_stage(root, [captions], self.slots)
        assert work(table) == 0
        images = images_of(table, [picture(k, caption=f"a picture of {CLASSES[k % 5]} number {k}") for k in range(self.slots)])
        return captions, table, images

    def pictures(self, name: str, *classes: str) -> Path:
        """Class folders of pictures: a cat, a dog, and further classes; those of folders of other names are others."""
        from tests.verify.conftest import png

        folder = self.path / name
        for at, cls in enumerate(("cat", "dog", *classes)):
            (folder / cls).mkdir(parents=True, exist_ok=True)
            (folder / cls / f"{at}.png").write_bytes(png(at) + name.encode())
        return folder

    @cache  # noqa: B019 (one place a module)
    def model(self, name: str) -> Path:
        """A tiny model of the form that a path of the pages stands for."""
        folder = self.path / "models" / name
        if name == "clip":
            from tests.fixtures_clip import build_tiny_clip

            return build_tiny_clip(folder)
        if name in LAYOUT:
            from tests.layout import tiny as layout

            folder.mkdir(parents=True)
            return getattr(layout, name)(folder)
        if name in LANGUAGE:
            from tests.captions import tiny_hf

            return tiny_hf.save(folder)
        if name == "llama":
            return self._llama(folder)
        if name == "glide":
            folder.mkdir(parents=True)
            (folder / "weights.txt").write_text("weights of somebody's own form")
            return folder
        if name.endswith((".safetensors", "-configs")):
            return self._single_files(name, folder)
        if name == "loras":
            from tests.images.loras import make_lora

            for seed, line in enumerate(LINES.splitlines()):
                make_lora(self.model("sd15"), folder / f"{line.strip()}.safetensors", seed)
            return folder
        from tests.images import tiny

        folder.parent.mkdir(exist_ok=True)
        return tiny.build(DRAWN[name], folder)

    def _single_files(self, name: str, path: Path) -> Path:
        from diffusers import StableDiffusionPipeline
        from safetensors.torch import save_file

        from tests.images.checkpoints import single_file
        from tests.images.loras import make_lora

        sd = self.model("sd15")
        if name.endswith("-configs"):
            return shutil.copytree(sd, path, ignore=shutil.ignore_patterns("*.safetensors"))
        path.parent.mkdir(exist_ok=True)
        if name == "style.safetensors":
            make_lora(sd, path, seed=1)
        else:
            save_file(single_file(StableDiffusionPipeline.from_pretrained(sd)), path)
        return path

    def _llama(self, folder: Path) -> Path:
        from tests.captions.llama import tiny

        folder.mkdir(parents=True)
        tiny.one_process()
        tokenizer = tiny.train_tokenizer(folder / "tokenizer.model")
        shutil.copy(tokenizer, tiny.write_checkpoint(folder / "llama-2-7b", tiny.GQA, tokenizer))
        return folder

    def scratch_models(self) -> Path:
        """$SYNTHSET_MODELS, as prefetch.py leaves it."""
        folder = self.path / "scratch"
        if not folder.exists():
            folder.mkdir()
            (folder / "sdxl").symlink_to(self.model("sdxl"))
        return folder

    @cache  # noqa: B019
    def annotated(self):
        from tests.tracking.scenes import make

        return make(self.path / "annotated", size=((192, 160), (160, 192), (160, 128)))

    def file(self, name: str, text: str) -> Path:
        path = self.path / name
        path.write_text(text, encoding="utf-8")
        return path

    def captioned(self) -> Path:
        """Pictures with alt texts, as img2dataset has them."""
        from tests.layout.sources import pictures

        return pictures(self.path / "cc3m", 3, "00000/")

    def meta(self) -> Path:
        """Meta files of them."""
        from synth.layout.meta import main

        assert main([str(self.captioned()), str(self.path / "meta")]) == 0
        return self.path / "meta"

    def to_merge(self, name: str) -> Path:
        """An image of LVIS's with a cat, or COCO's annotation of a person on it."""
        from tests.tracking import test_lvis as small

        lvis = {"images": [small.lvis_image(1)], "annotations": [small.at(10, 1, 3, 0)], "categories": small.LVIS}
        coco = {"images": [small.coco_image(1)], "annotations": [small.at(900, 1, small.PERSON, 50)]}
        coco["categories"] = [{"id": small.PERSON, "name": "person"}]
        return self.file(name, json.dumps(lvis if name == "LVIS.json" else coco))

    def partitions(self) -> None:
        """Eight partition files of keyed pictures, as other tools write them."""
        import h5py
        import numpy as np

        from tests.verify.conftest import png

        (self.path / "DIR").mkdir(exist_ok=True)
        for part in range(8):
            with h5py.File(self.path / "DIR" / f"set_split_{part}.h5", "w") as f:
                f[f"{part}.png"] = np.frombuffer(png(part), np.uint8)


def checked(program: str, words: list[str], command: Command) -> None:
    """What of a line can be checked that cannot run here."""
    if program == "make":
        subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, check=True, timeout=20)
    elif program == "sbatch" and words == ["--test-only"]:  # named, in the middle of a sentence
        return
    elif program == "sbatch":
        script, *_ = (ROOT / w for w in words if not w.startswith("-"))
        if script.name == "0001.sbatch":  # of a submission: Place.plan has bash read those
            return
        subprocess.run(["bash", "-n", script], check=True, timeout=20)
        assert Path([w for w in words if not w.startswith("-")][-1], "stage.json").exists()
    elif program == "pip":
        for package in (w.strip("'") for w in words[1:] if not w.startswith("-")):
            name, _, extra = package.rstrip("]").partition("[")
            pinned = package in (ROOT / "constraints.txt").read_text().splitlines()
            assert (
                package in FOREIGN
                or pinned
                or (name in (".", "synthset") and (not extra or f"\n{extra} =\n" in (ROOT / "setup.cfg").read_text()))
            )
    elif program == "bash":
        script = ROOT / words[0]
        subprocess.run(["bash", "-n", script], check=True, timeout=20)
        assert all(f"\n{word})" in script.read_text(encoding="utf-8") for word in words[1:])
    elif program == "pytest":
        assert all((ROOT / w).is_dir() or f"\n    {w}:" in (ROOT / "setup.cfg").read_text() for w in words if not w.startswith("-"))
    elif program.startswith(("tests.bench", "tests.gpu")):
        if program.endswith(".NAME"):
            return  # the table behind it: test_the_benchmarks_of_the_table_are_there
        source = (ROOT / f"{program.replace('.', '/')}.py").read_text(encoding="utf-8")
        assert all(w in source for w in words if w.startswith("--"))
    elif program == "synth.tracking.old_results":
        source = Path(importlib.import_module(program).__file__).read_text(encoding="utf-8")
        assert all(f'"{w}"' in source for w in words if w.startswith("--"))


def test_the_benchmarks_of_the_table_are_there():
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "figures.md").read_text(encoding="utf-8"), re.MULTILINE)
    names = {n for row in rows[1:] for n in re.findall(r"`(\w+)`", row)}
    there = {p.stem for p in (ROOT / "tests" / "bench").glob("*.py") if "def main" in p.read_text(encoding="utf-8")}
    assert names and names <= there, names - there


@cache
def read_names() -> set[str]:
    """Names of environment variables that the code or conf/ mentions."""
    texts = [
        p.read_text(encoding="utf-8")
        for top in ("launch", "synth", "conf")
        for p in (ROOT / top).rglob("*")
        if p.suffix in (".py", ".yaml")
    ]
    return {name for text in texts for name in re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b", text)}


LAYOUT = ("mm_grounding_dino", "owlv2", "sam2", "florence2")
LANGUAGE = ("Qwen2.5-7B-Instruct", "Llama-2-7b-hf")
DRAWN = {
    "sd14": "sd", "sd15": "sd", "sdxl": "sdxl", "sdxl-refiner": "sdxl_refiner", "if-1": "floyd", "if-2": "floyd_2", "x4": "floyd_3",
}  # fmt: skip
LINES = "cat\ndog\nsea lion\n"
ALL_AIRCRAFT = [c["name"] for c in json.loads((ROOT / "synth" / "captions" / "datasets" / "aircraft.json").read_text())["classes"]]
AIRCRAFT = ALL_AIRCRAFT[0]
NAMES = json.loads((ROOT / "synth" / "embedded" / "pictures" / "classes.json").read_text())["classes"]
CAPTIONS = "".join(f"A {name} on a sofa. => {name}\n" for name in NAMES)
BOOK = "Gen.1\nIn the beginning\nthere was light\nGen.2\nA garden\n"
STYLES = '[{"style": "an oil painting, thick strokes", "file_tag": "oil", "weight": 0.8}]'

# what the pages write -> what lies here: (pattern, (place, match) -> text); the first match of each is replaced, everywhere
SMALL: list[tuple[str, Callable]] = [
    (r"runs/(pictures|pacs)/images-0123456789ab", lambda p, m: p.images.path),
    (r"^runs/pictures$|^runs$", lambda p, m: p.path / m[0]),
    (r"^STAGE_DIR(?=$|/)|^STAGE$", lambda p, m: p.captions.path),
    (r"(?<=path[=:])/m(?:odels)?/([\w.-]+)|(?<=[=:])/m/([\w.-]+)|(?<==)/models/([\w.-]+)", lambda p, m: p.model(m[1] or m[2] or m[3])),
    (r"^/models/llama$", lambda p, m: p.model("llama")),
    (r"^/scratch/me/models$", lambda p, m: p.scratch_models()),
    (r"/envs/glide/bin/python", lambda p, m: sys.executable),
    (r"draw_glide\.py", lambda p, m: p.file("draw_glide.py", "print('hello')\n")),
    (r"(?<=against=)/data/test|(?<=source=)/data/photos", lambda p, m: p.pictures(m[0].removeprefix("/data/"))),
    (r"(?<=judge\.source=)/data/\w+|(?<=judge\.real=|judge\.test=)/data/[\w/]+", lambda p, m: p.pictures(m[0][1:], AIRCRAFT)),
    (r"(?<=lora\.real=)(null,)?(/data/[\w/]+)", lambda p, m: f"{m[1] or ''}{p.pictures(f'shots{m[2]}', *map(folder_name, ALL_AIRCRAFT))}"),
    (r"(?<=source=)/data/cc3m|^/data/cc3m$", lambda p, m: p.captioned()),
    (r"(?<=source=)meta$", lambda p, m: p.meta()),
    (r"(?<=image_folder=)/scratch/cc3m", lambda p, m: p.captioned()),
    (r"(?<=file=)tags\.json", lambda p, m: p.file("tags.json", '{"000.png": ["cat"]}')),
    (r"(?<=out=)/data/\w+", lambda p, m: p.out() / "made"),
    (r"(?<=count_file=)counts\.csv", lambda p, m: p.file(m[0], "class,count\ncat,12\n")),
    (r"^dataset\.source=(classes\.txt)", lambda p, m: f"dataset.source={p.file(m[1], LINES)}"),
    (r"^prompts\.file=(captions\.txt)", lambda p, m: f"prompts.file={p.file(m[1], CAPTIONS)}"),
    (r"(?<=source=)book\.txt", lambda p, m: p.file("book.txt", BOOK)),
    (r"\b(styles|oil)\.json", lambda p, m: p.file(m[0], STYLES)),
    (r"\bink\.json", lambda p, m: p.file(m[0], STYLES.replace("oil", "ink"))),
    (r"(?<=annotations=)lvis_v1_train\.json|^IN\.json", lambda p, m: p.annotated().annotations),
    (r"^(LVIS|COCO)\.json$", lambda p, m: p.to_merge(m[0])),
    (r"(?<=images=)train2017", lambda p, m: p.annotated().images),
    (r"(?<=captions=)captions_train2017\.json", lambda p, m: p.annotated().captions),
    (r"^(OUT\.\w+|DST|train_imgs\.hdf5)$", lambda p, m: p.out() / m[0]),
    (r"^SRC$", lambda p, m: p.model("llama") / "llama-2-7b"),
    (r"^FOLDER$", lambda p, m: p.pictures("photos")),
]
LAUNCH: dict[str, Callable[[Place, list[str]], None]] = {
    "doctor": Place.doctor,
    "run": Place.plan,
    "node": Place.node,
    "export": Place.export,
    "prefetch": Place.prefetch,
    "report": Place.report,
    **{name: (lambda place, words, name=name: place.looks(name, words)) for name in ("verify", "status", "cancel", "clean")},
}
TOOLS: dict[str, Callable[[Place], None]] = {  # module -> what must lie there before it runs
    "synth.export.merge_hdf5": Place.partitions,
    "synth.export.keyed_hdf5": lambda place: None,
    "synth.export.prompts_json": lambda place: None,
    "synth.captions.llama.reshard": lambda place: None,
    "synth.layout.meta": lambda place: None,
    "synth.tracking.lvis": lambda place: None,
}


@pytest.fixture(scope="module", autouse=True)
def composed_once():
    """Hydra reads the YAML of equal settings once: half of the time of these tests."""
    from launch.config.compose import Composer

    plain, trees = Composer.compose, {}

    def compose(self, overrides):
        key = tuple(overrides)
        if key not in trees:
            trees[key] = plain(self, overrides)
        return trees[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Composer, "compose", compose)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("docs"))
