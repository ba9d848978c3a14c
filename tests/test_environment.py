"""environment.yaml for users of conda is made from setup.cfg: python -m tests.test_environment writes it anew."""

import configparser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "environment.yaml"
EXTRAS = ("openai", "filters", "idle", "lora", "tracking", "wordnet")
HEAD = """\
# For conda, mamba, micromamba: conda env create -f environment.yaml && conda activate synthset && pip install --no-deps -e .
# Made from setup.cfg by python -m tests.test_environment. Python comes from conda, all else from where pip takes it: torch is the
# build that the tests run. docs/gpus.md says which build a driver needs.
"""


def text() -> str:
    """What environment.yaml must be."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lists = [config["options"]["install_requires"], *(config["options.extras_require"][name] for name in EXTRAS)]
    lines = [line for text in lists for line in text.splitlines() if line and not line.startswith("#")]
    wanted = [f'      - "{line}"' for line in dict.fromkeys(lines)]
    python = config["options"]["python_requires"]
    return "\n".join(
        [
            HEAD + "name: synthset",
            "channels: [conda-forge]",
            "dependencies:",
            f'  - "python{python},<3.14"',
            "  - pip",
            "  - pip:",
            *wanted,
            "",
        ]
    )


def test_the_environment_of_conda_is_that_of_setup_cfg():
    assert FILE.read_text() == text(), "run python -m tests.test_environment"


def test_every_extra_is_in_it_but_those_of_developers():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert {*EXTRAS, "dev", "train"} == set(config["options.extras_require"])


if __name__ == "__main__":
    FILE.write_text(text())
