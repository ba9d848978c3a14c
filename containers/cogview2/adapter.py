"""Draws with CogView2, for model=cogview2: requests in and pictures out by the protocol of docs/external.md.

    python adapter.py WEIGHTS [--style photo] [--only-first-stage] [--fp32]

Runs in an environment of CogView2's own (the images of this folder), under Python 3.8 or newer, and imports nothing of synthset.
WEIGHTS is a folder as fetch.py fills it; it is only read. CogView2's code lies at COGVIEW2_HOME.
"""

import argparse
import atexit
import contextlib
import functools
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

STAGES = ("coglm", "cogview2-dsr", "cogview2-itersr")  # 20x20 tokens, 60x60 tokens at once, and these drawn again in six rounds
TOKENIZERS = ("ice_text.model", "ice_image.pt")
STYLES = ("none", "mainbody", "photo", "flat", "comics", "oil", "sketch", "isometric", "chinese", "watercolor")
SIZE = 480  # pixels a side, whatever is asked for
LONGEST, LONGEST_SR = 110, 96  # tokens of a prompt with its style: of the first stage; the second has 96 places, the last of them its own
UNUSED = {"steps": 1, "guidance_scale": 1.0, "negative_prompt": ""}  # what a request must say of what CogView2 does not have
BAD_INPUT = 65


class Refused(Exception):
    """A request that cannot be drawn; the next one can."""


# -- the protocol ----------------------------------------------------------------------------------------------------


def own_stdout():
    """Standard output for answers alone: whatever else is printed, by C libraries too, goes to the log."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def serve(requests, answers, draw) -> None:
    """Answers each line of `requests` with a picture of draw(request), or with its Refused."""

    def say(**answer) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    say(hello="synthset-external", version=1)
    for line in requests:
        request = json.loads(line)
        try:
            check_request(request)
            image = draw(request)
        except Refused as e:
            say(id=request["id"], error=str(e))
        else:
            image.save(request["out"], format="PNG")
            say(id=request["id"])


def check_request(request) -> None:
    """Refused where a key is set that CogView2 cannot heed."""
    for key, nothing in UNUSED.items():
        if request[key] != nothing:
            raise Refused(f"images.{key}={request[key]}: CogView2 has none; leave it to model=cogview2, which says {nothing!r}")
    width, height = request["width"], request["height"]
    if width != height:
        raise Refused(f"images.width={width} images.height={height}: CogView2 draws {SIZE}x{SIZE}, and a picture is not stretched")


# -- what must be there ----------------------------------------------------------------------------------------------


def lacking(weights: Path, stages) -> list:
    """Names below `weights` that are not there or empty."""
    names = [f"icetk_models/{name}" for name in TOKENIZERS]
    for stage in stages:
        names += [f"{stage}/model_config.json", f"{stage}/latest"]
        with contextlib.suppress(OSError):
            names.append(f"{stage}/{(weights / stage / 'latest').read_text().strip()}/mp_rank_00_model_states.pt")
    return [name for name in names if not ((weights / name).is_file() and (weights / name).stat().st_size)]


def check_gpu(torch) -> None:
    """Ends the program, with the versions, where this torch can compute on no GPU of this machine."""
    built = f"torch {torch.__version__} for CUDA {torch.version.cuda}"
    if not torch.cuda.is_available():
        fail(f"{built} sees no GPU (driver: {driver()}); start the container with its GPUs: --nv, or --gpus all")
    major, minor = torch.cuda.get_device_capability()
    kernels = [(int(a), int(b)) for a, b in re.findall(r"sm_(\d+)(\d)\b", " ".join(torch.cuda.get_arch_list()))]
    if not any(a == major and b <= minor for a, b in kernels):
        name = torch.cuda.get_device_name()
        fail(f"{built} has no code for {name} (sm_{major}{minor}; driver: {driver()}); use the image for Hopper, containers/README.md")


def driver() -> str:
    """The host's driver, in nvidia-smi's words."""
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(ask, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as e:
        return f"nvidia-smi: {e}"
    return " ".join(done.stdout.split()) or "nvidia-smi says nothing"


def fail(why: str) -> None:
    print(f"adapter.py: {why}", file=sys.stderr, flush=True)
    sys.exit(BAD_INPUT)


# -- CogView2 --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def writable_view(weights: Path):
    """A folder of links to `weights`, in which SwissArmyTransformer and icetk may write the locks that they take to load a file."""
    place = Path(tempfile.mkdtemp(prefix="cogview2-"))
    try:
        (place / "icetk_models").mkdir()
        for name in (*STAGES, *(f"icetk_models/{name}" for name in TOKENIZERS)):
            (place / name).symlink_to(weights / name)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def alone() -> None:
    """One rank, at a free port: 6000, which SwissArmyTransformer takes, may be another worker's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")


def own_cache() -> None:
    """A private folder for what deepspeed keeps of its kernels. It would make ~/.triton as it is imported, and read pickles there; who runs
    an image may have no home that can be written."""
    place = tempfile.mkdtemp(prefix="cogview2-kernels-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    os.environ["TRITON_CACHE_DIR"] = place


class CogView2:
    """The models, loaded once. CogView2's own functions compute; what is here puts them in order for one picture at a time."""

    def __init__(self, code: Path, weights: Path, style: str, only_first_stage: bool, fp32: bool):
        os.chdir(code)  # cluster_label.npy is read from the working folder
        sys.path.insert(0, str(code))
        import torch

        check_gpu(torch)
        self.torch = torch
        alone()
        own_cache()
        with writable_view(weights) as view:
            os.environ["SAT_HOME"] = str(view)
            self._load(view, style, only_first_stage, fp32)

    def _load(self, view: Path, style: str, only_first_stage: bool, fp32: bool) -> None:
        from icetk import icetk as tokenizer

        # before anything reads the tokenizer; cogview2_text2image adds its special tokens, which a process may do only once
        tokenizer.configure(path=str(view / "icetk_models"), device="cuda", fp16=not fp32)
        import cogview2_text2image as upstream
        from coglm_strategy import CoglmStrategy
        from SwissArmyTransformer import get_args

        # a seed of 0 sets none, and so leaves cuDNN on
        half = [] if fp32 else ["--fp16"]
        args = get_args(["--mode", "inference", "--seed", "0", "--batch-size", "1", "--max-inference-batch-size", "1", *half])
        recipe = upstream.get_recipe(style)
        own = {"img_size": 160, "only_first_stage": only_first_stage, "inverse_prompt": False, "style": style}
        model, args = upstream.InferenceModel.from_pretrained(argparse.Namespace(**vars(args), **own, **recipe), "coglm")
        self.upstream, self.tokenizer, self.args, self.model = upstream, tokenizer, args, model
        self.template, self.longest = recipe["query_template"], LONGEST if only_first_stage else LONGEST_SR
        images_only = [slice(tokenizer.num_image_tokens, None)]
        words = {"temperature": args.temp_all_gen, "top_k": args.topk_gen, "top_k_cluster": args.temp_cluster_gen}
        self.strategy = CoglmStrategy(images_only, **words)
        self.larger = None
        if not only_first_stage:
            from sr_pipeline import SRGroup

            self.larger = SRGroup(args)
        tokenizer.decode(image_ids=self.torch.zeros(400, device=args.device, dtype=self.torch.long))  # the decoder too, before the hello

    def draw(self, request):
        """The picture of a request: of its prompt and its seed, whatever was drawn before."""
        tokens = self._tokens(request["prompt"])
        self._seed(request["seed"])
        with self.torch.no_grad():
            pixels = self._pixels(tokens)
        if not bool(self.torch.isfinite(pixels).all()):
            raise Refused("the decoder gave numbers that are no colours")
        return picture(pixels, request["width"])

    def _tokens(self, prompt: str) -> list:
        for word in ("<start_of_image>", "<start_of_english>", "<start_of_chinese>"):
            if word in prompt:
                raise Refused(f"the prompt holds {word}, a token of CogView2's own")
        tokens = self.tokenizer.encode(self.template.format(prompt))
        if len(tokens) > self.longest:
            raise Refused(f"the prompt is {len(tokens)} tokens long with its style; CogView2 reads {self.longest}")
        return tokens

    def _seed(self, seed: int) -> None:
        """All generators that CogView2 may draw from; torch's are those of its GPUs too."""
        random.seed(seed)
        import numpy as np

        np.random.seed(seed % 2**32)  # noqa: NPY002 (the global one is what others draw from)
        self.torch.manual_seed(seed)

    def _pixels(self, tokens: list):
        """[3, 480, 480] in 0..1, a little more or less."""
        from SwissArmyTransformer.generation.autoregressive_sampling import filling_sequence

        torch, args = self.torch, self.args
        given = len(tokens) - 1  # the last one opens the picture
        sequence = torch.tensor(tokens + [-1] * 400, device=args.device)
        weights = torch.zeros(len(sequence), len(sequence), device=args.device, dtype=torch.half if args.fp16 else torch.float32)
        weights[:, :given] = args.attn_plus
        self.strategy.start_pos = given + 1
        masks = functools.partial(self.upstream.get_masks_and_position_ids_coglm, context_length=given)
        more = {"strategy": self.strategy, "log_attention_weights": weights, "get_masks_and_position_ids": masks}
        drawn = filling_sequence(self.model, sequence.clone(), batch_size=1, **more)[0][:, -400:]
        if self.larger is not None:
            drawn = self.larger.sr_base(drawn, sequence[:given])[:, -3600:]
        pixels = self.tokenizer.decode(image_ids=drawn[0]).float()
        return torch.nn.functional.interpolate(pixels, size=(SIZE, SIZE))[0]


def picture(pixels, size: int):
    """A PIL image of `size` pixels a side from [3, 480, 480] in 0..1."""
    from PIL import Image

    levels = pixels.mul(255).add(0.5).clamp(0, 255).permute(1, 2, 0).byte().cpu().numpy()
    image = Image.fromarray(levels)
    return image if size == SIZE else image.resize((size, size), Image.LANCZOS)


# -- the program -----------------------------------------------------------------------------------------------------


def words(arguments=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="draws with CogView2 by the protocol of synthset's external models")
    parser.add_argument("weights", type=Path, help="folder that fetch.py filled")
    parser.add_argument("--style", choices=STYLES, default="photo", help="words that CogView2 adds to a prompt, and its temperatures")
    parser.add_argument("--only-first-stage", action="store_true", help="20x20 tokens, blurred; needs neither local attention nor 40 GB")
    parser.add_argument("--fp32", action="store_true", help="float32 in the place of float16: twice the memory")
    parser.add_argument("--code", type=Path, default=os.environ.get("COGVIEW2_HOME", "/opt/cogview2/CogView2"), help="a clone of CogView2")
    return parser.parse_args(arguments)


def main() -> None:
    options, answers = words(), own_stdout()
    stages = STAGES[:1] if options.only_first_stage else STAGES
    weights = options.weights.expanduser().absolute()
    if missing := lacking(weights, stages):
        fail(f"{weights} lacks {', '.join(missing)}; bring it with: python containers/cogview2/fetch.py {weights}")
    if not (options.code / "cluster_label.npy").is_file():
        fail(f"{options.code} is no clone of CogView2 (cluster_label.npy); give --code or COGVIEW2_HOME")
    if not options.only_first_stage and importlib.util.find_spec("localAttention") is None:
        fail("Image-Local-Attention is not installed here; use an image of containers/cogview2, or --only-first-stage")
    model = CogView2(options.code.absolute(), weights, options.style, options.only_first_stage, options.fp32)
    try:
        serve(sys.stdin, answers, model.draw)
    except RuntimeError as e:
        if "CUDA" not in str(e):
            raise
        # memory or the card is at fault, and no prompt: end as one that somebody else killed, so that none is blamed
        print(f"adapter.py: {e}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
