"""Questions to Slurm that somebody waits for: all of them end in a time, and who did not answer is known by name."""

import shutil
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

NO_ANSWER = 124  # exit code of a command that was ended because it did not answer, as timeout(1) has it
CONFIG = ("scontrol", "show", "config")
FIRST = (  # one question of each kind, cheap for whoever is asked
    CONFIG,
    ("sinfo", "-h", "-o", "%P"),
    ("squeue", "-h", "-j", "1"),
    ("sacctmgr", "-nP", "show", "cluster"),
    ("sacct", "-n", "-j", "1"),
)
SAME = ("sbatch", "scancel")  # ask the controller that scontrol asks

Done = tuple[int, str, str]  # exit code, stdout, stderr


class Hurry:
    """What is left of the time, and who did not answer. First one question of each kind is asked, side by side: a command that is silent
    is known after the time of one, and is not asked again."""

    def __init__(self, run: Callable[[Sequence[str], float, Collection[str]], Done], first: float, seconds: float):
        """run(args, timeout, keep) runs a command. first: seconds that each kind may take side by side. seconds: all together."""
        self._run, self._first, self._left = run, first, seconds
        self.silent: dict[str, None] = {}
        self._begun = False

    def begin(self) -> str:
        """Ask one question of each kind, once; what scontrol says of the site's config, "" later or where it says nothing."""
        if self._begun:
            return ""
        self._begun, begun = True, time.monotonic()
        there = [words for words in FIRST if shutil.which(words[0])]
        with ThreadPoolExecutor(len(FIRST)) as pool:
            answers = dict(zip(there, pool.map(lambda words: self._run(words, self._first, ()), there), strict=True))
        self.silent |= dict.fromkeys(words[0] for words, done in answers.items() if done[0] == NO_ANSWER)
        if CONFIG[0] in self.silent:
            self.silent |= dict.fromkeys(name for name in SAME if shutil.which(name))
        self._left -= time.monotonic() - begun
        code, out, _ = answers.get(CONFIG, (NO_ANSWER, "", ""))
        return out if code == 0 else ""

    def command(self, args: Sequence[str], timeout: float, keep: Collection[str] = ()) -> Done:
        """Run a command for as long as there is time; one that is silent, or that comes too late, has no answer."""
        if args[0] in self.silent or self._left <= 0:
            self.silent.setdefault(args[0])
            return NO_ANSWER, "", f"Socket timed out: no answer from {args[0]} in time"
        begun = time.monotonic()
        done = self._run(args, min(timeout, self._left), keep)
        self._left -= time.monotonic() - begun
        if done[0] == NO_ANSWER:
            self.silent.setdefault(args[0])
        return done
