"""Which words of Slurm are its last: those that are known to stay as they are. Everything else is tried again, for a bounded time.

The other way round, a list of what passes, is never complete: Slurm has some 400 errors, versions rename them, and sites, wrappers and
job_submit plugins add their own. An order given up too soon costs a run; one tried once more costs seconds.
"""

import re

_WHAT = (
    "account|argument|array|burst|cluster|constraint|core|count|dependency|directive|feature|gres|generic|group|job|license|mem|node|numeric"
    "|option|partition|qos|reservation|size|specification|task|time|tres|user|wckey"
)
PERMANENT = re.compile(
    rf"\binvalid (?:--)?(?:{_WHAT})|specification invalid|is invalid\b|no cluster '"
    r"|unrecognized|unknown option|ambiguous option|requires an argument|usage:"
    r"|permission denied|access denied|not permitted|not allowed|not authorized|disabled|not supported"
    r"|violates|policy|submit limit|[a-z]limit\b|time limits?\b|exceeds|\btoo (?:long|many|large|big)\b"
    r"|configuration is not available|can ?not be satisfied|more processors|is not available$|larger than"
    r"|already completing|already finished|dependency problem|unspecified error"
    r"|could not establish a configuration|unable to process configuration"
    r"|no such file|unable to open|\bnot found|does not exist|does not look like|must (?:be|have|give|specify|set|request|use|provide)\b",
    re.IGNORECASE | re.MULTILINE,
)


def passing(words: str) -> bool:
    """Whether what a command of Slurm said may be over in a while.

    >>> passing("sbatch: error: Batch job submission failed: Slurm backup controller in standby mode"), passing("")
    (True, True)
    >>> passing("sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified")
    False
    """
    return not PERMANENT.search(words)
