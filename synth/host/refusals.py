"""Which words of Slurm are its last: those that are known to stay as they are. Everything else is tried again, for a bounded time.

The other way round, a list of what passes, is never complete: Slurm has some 400 errors, versions rename them, and sites, wrappers and
job_submit plugins add their own. An order given up too soon costs a run; one tried once more costs seconds.
"""

import re

_WHAT = (
    "account|accounting|argument|array|burst|cluster|constraint|core|count|deadline|dependency|directive|distribution|feature|gres|generic"
    "|group|job(?! credential)|license|mcs_label|mem|node|numeric|octal|option|partition|preferred|priority|qos|reservation|size"
    "|specification|task|time|trackable|tres|user|wckey"
)
PERMANENT = re.compile(
    rf"\binvalid (?:--|{_WHAT})|\binvalid .*\b(?:specification|specified|value|argument|option)\b|(?:specification|request) invalid"
    r"|is invalid\b|no cluster '|no partition specified|not in this partition|duplicate generic|needs to be provided|breached"
    r"|unrecognized|unknown option|ambiguous option|requires an argument|usage:"
    r"|permission denied|access denied|not permitted|not allowed|not authorized|disabled|not supported"
    r"|violates|policy|submit limit|[a-z]limit\b|time limits?\b|exceeds|\btoo (?:long|many|large|big)\b"
    r"|configuration is not available|can ?not be satisfied|more processors|is not available$|larger than"
    r"|mutually exclusive|could not open user environment"
    r"|already completing|already finished|dependency problem|unspecified error"
    r"|could not establish a configuration|unable to process configuration"
    r"|no such file|unable to open|\bnot found|does not exist|does not look like|must (?:be|have|give|specify|set|request|use|provide)\b",
    re.IGNORECASE | re.MULTILINE,
)
# munged restarts: its socket is missing ("no such file") for as long as that takes
MUNGE = re.compile(r"^.*\bmunge(?:d\b| (?:en|de)code\b|\.socket).*$", re.IGNORECASE | re.MULTILINE)


def passing(words: str) -> bool:
    """Whether what a command of Slurm said may be over in a while.

    >>> passing("sbatch: error: Batch job submission failed: Slurm backup controller in standby mode"), passing("")
    (True, True)
    >>> passing("sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified")
    False
    """
    return not PERMANENT.search(MUNGE.sub("", words))
