"""Stories: the styles of a prompt in one batch against one by one, and how long a large book takes to plan. One run.

    python -m tests.bench.story [--prompts N] [--styles N] [--rounds R] [--book N]

Both ways are the story stage, with the same pictures to make (up to a grey level); rounds alternate, ratios are taken within
a round, then their median. Loading is left out. CPU seconds are of this thread: what a busy machine does not disturb.
Goals: batching at least 1.3 times faster on a CPU core with the tiny model; a book of 10,000 prompts planned in under 5 s.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path


def plan(root: Path, text: str, styles: int, *overrides: str):
    """(planned stage, seconds)"""
    from launch.config.compose import Composer, typed
    from launch.plan.graph import plan_point

    root.mkdir(parents=True, exist_ok=True)
    (root / "book.txt").write_text(text)
    (root / "styles.json").write_text(
        json.dumps([{"style": f"in the snow {i}", "file_tag": f"s{i}", "weight": 0.7} for i in range(styles)])
    )
    begun = time.perf_counter()
    given = [
        f"story.prompt_config.source={root}/book.txt",
        f"story.style_configs_file={root}/styles.json",
        "export=[]",
        f"runs_dir={root}",
    ]
    point = plan_point(typed(Composer().compose(["recipe=story", *given, *overrides])))
    return point.stages[0], time.perf_counter() - begun


def book(prompts: int, chapters: int) -> str:
    each = -(-prompts // chapters)
    return "front\n" + "".join(f"Chapter {c + 1}\n" + "a small cat on the left, looking at a dog\n" * each for c in range(chapters))


def opened(root: Path, prompts: int, styles: int, rows: int):
    from synth.store.folder import StageFolder
    from synth.story.stage import StoryStage

    planned, _ = plan(root, book(prompts, 1), styles, f"images.batch_size={rows}")
    stage = StoryStage(StageFolder.create(planned.dataset_root, planned.spec))
    stage.check()
    stage.open()
    return stage


def chain(stage) -> tuple[float, float]:
    """(seconds, CPU seconds) of a whole chain, its last pictures on the host."""
    unit = stage.folder.unit(0)
    begun, cpu = time.perf_counter(), time.thread_time()
    state = stage.begin(unit)
    for slots in stage.folder.spec.batches(unit):
        items = stage.compute(state, slots)
    for item in items:
        item.picture.pixels()
    return time.perf_counter() - begun, time.thread_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("prompts", 4), ("styles", 6), ("rounds", 5), ("book", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    from synth.numerics import EXACT, environment

    os.environ.update(environment(EXACT))
    import diffusers
    import torch

    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU, 1 thread"
    print(f"{where}; torch {torch.__version__}, diffusers {diffusers.__version__}; load {os.getloadavg()[0]:.1f}")
    print(f"tiny model, 20 steps, 32x32, {args.prompts} prompts x {args.styles} styles of weight 0.7, {args.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        batched, single = (opened(Path(folder, str(rows)), args.prompts, args.styles, rows) for rows in (args.styles, 1))
        for stage in (batched, single):
            chain(stage)
        rounds = [(chain(batched), chain(single)) for _ in range(args.rounds)]
        n = args.prompts * args.styles
        for name, i in (("styles in one batch", 0), ("one by one", 1)):
            seconds, cpu = (statistics.median(r[i][k] for r in rounds) for k in (0, 1))
            print(f"  {name:22} {n / seconds:6.2f} pictures/s   {1000 * cpu / n:6.1f} CPU ms a picture")
        ratio, of_cpu = (statistics.median(r[1][k] / r[0][k] for r in rounds) for k in (0, 1))
        spread = sorted(r[1][0] / r[0][0] for r in rounds)
        print(f"  one batch is {ratio:.2f} times faster ({spread[0]:.2f}-{spread[-1]:.2f}); by CPU time {of_cpu:.2f}")
        print(f"planning {args.book:,} prompts (config, regexes in a child process, model inspected):")
        for chapters, more in ((100, ()), (1, ()), (100, ("story.carry=book",))):
            times = [plan(Path(folder, "plan"), book(args.book, chapters), args.styles, *more)[1] for _ in range(3)]
            print(f"  {chapters:4} chapters {' '.join(more):18} {statistics.median(times):5.2f} s ({min(times):.2f}-{max(times):.2f})")


if __name__ == "__main__":
    main()
