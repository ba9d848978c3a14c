"""Which account pays for a run, said before anything is queued."""

import getpass
from collections.abc import Mapping

from synth.host import slurm

QUICK = 10.0  # seconds: a site whose accounting is down must not hold up a launch


def paid_by(accounts: Mapping[str, str | None], inherited: Mapping[str, str], default: str) -> str:
    """A line for people. accounts: kind of stage -> the account that its jobs name; inherited: account -> the variable that it came from.

    >>> paid_by({"images": "lab", "gate": "x"}, {"lab": "SBATCH_ACCOUNT"}, "dev")
    'account lab (SBATCH_ACCOUNT) pays for images, x for gate'
    >>> paid_by({"images": "lab", "gate": None}, {}, "dev")
    'account lab pays for images, dev (your default) for gate'
    """
    by_account: dict[str, list[str]] = {}
    for kind, account in accounts.items():
        by_account.setdefault(account or "", []).append(kind)
    names = {
        account: account + (f" ({inherited[account]})" if account in inherited else "")
        if account
        else f"{default} (your default)"
        if default
        else "that the site chooses"
        for account in by_account
    }
    if len(by_account) == 1:
        return f"account {names.popitem()[1]} pays"
    first, *others = [f"{names[account]} {{}}for {', '.join(kinds)}" for account, kinds in by_account.items()]
    return ", ".join([f"account {first.format('pays ')}", *(other.format("") for other in others)])


def default_account(cluster: str = "") -> str:
    """The account of jobs that name none, on a cluster; "" where nobody says."""
    where = ["withassoc", "where", f"user={getpass.getuser()}", *([f"cluster={slurm.home(cluster)}"] if slurm.home(cluster) else [])]
    lines = slurm.ask("sacctmgr", "-nP", "show", "user", *where, "format=DefaultAccount", timeout=QUICK).split()
    return lines[0] if lines else ""
