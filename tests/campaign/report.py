"""What a phase found."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Report:
    """counts: what happened, {group: {what: how often}}, a table each. faults: a line for each promise that did not hold."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def count(self, group: str, what: object, n: float = 1) -> None:
        self.counts.setdefault(group, Counter())[str(what)] += n

    def __str__(self) -> str:
        lines = []
        for group, counter in self.counts.items():
            whole = sum(counter.values())
            lines.append(f"  {group}: {whole:g}")
            lines += [f"    {what:32} {n:8g}" for what, n in sorted(counter.items())]
        return "\n".join([*lines, *(f"  FAULT {fault}" for fault in self.faults)])
