"""The parts of a report's page that tell of work: what it took, jobs, devices and versions, and where all came from. Pure; every text
escaped and cut."""

import json
from collections.abc import Mapping, Sequence

from rich.filesize import decimal

from launch.reporting import drawn
from launch.reporting.drawn import lasting, moment
from launch.reporting.events import Job
from launch.reporting.facts import Report
from launch.reporting.stages import StageFacts
from synth.export.page_parts import table, text

ROWS, NAMED = 200, 20  # of a table, of a list


def full(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The rows without columns in which none has anything to say."""
    return [{name: cell for name, cell in row.items() if any(r[name] for r in rows)} for row in rows]


def cost(report: Report) -> str:
    t = report.totals
    energy = "not recorded" if t.energy_kwh is None else f"{t.energy_kwh:.3g} kWh of {t.energy_jobs:,} workers' own GPUs"
    if t.co2_kg is not None:
        energy += f", {t.co2_kg:.3g} kg CO2 at {report.co2_g_per_kwh:g} g/kWh (--co2)"
    left = "0" if report.done else "not known: a stage has made nothing yet" if t.left_hours is None else f"about {t.left_hours:.3g}"
    facts = {
        "device hours used": f"{t.device_hours:.4g}",
        **{f"of these lost behind the last whole unit: {why}": f"{h:.4g}" for why, h in t.lost_hours.items()},
        "device hours left": left,
        "worker hours on cores": f"{t.core_hours:.4g}",
        "units made twice": f"{t.twice:,}",
        "units that another worker went on with": f"{t.adopted:,} ({t.adopted_batches:,} batches were not computed again)",
        "energy": energy,
    }
    stages = [
        {
            "stage": s.folder,
            "workers": f"{len(s.jobs):,}",
            "device hours": f"{s.device_s / 3600:.4g}" if s.device_s else "",
            "on cores": lasting(s.core_s) if s.core_s else "",
            "samples/s a worker": f"{s.rate:,.0f}" if (s.rate or 0) >= 100 else f"{s.rate:.3g}" if s.rate is not None else "",
            "idle": f"{100 * s.idle:.0f} %" if s.idle is not None else "",
            "left": "" if s.done else "?" if s.left_s is None else lasting(s.left_s),
            "units hold": decimal(s.unit_bytes) if s.unit_bytes else "",
        }
        for s in report.stages[:ROWS]
        if s.jobs
    ]
    hint = "<p><small>Samples/s and idle: between the begin and the end of computing, loading left out.</small></p>\n"
    return table([{"": name, " ": value} for name, value in facts.items()]) + table(full(stages)) + hint


def jobs(report: Report) -> str:
    jobs = report.jobs
    if not jobs:
        return ""
    ordered = sorted(jobs, key=lambda sj: (sj[1].well, sj[1].begun))[:ROWS]
    rest = f"<p><small>and {len(jobs) - ROWS:,} more, in the JSON</small></p>\n" if len(jobs) > ROWS else ""
    return f"{drawn.timeline(jobs)}{table(full([_job_row(s, j) for s, j in ordered]))}{rest}{_submissions(report)}"


def _job_row(stage: StageFacts, job: Job) -> dict[str, str]:
    return {
        "why it ended": f"{job.state}: {job.why}" if job.why and job.why != "done" else job.state,
        "stage": stage.folder,
        "job": job.slurm or ("" if job.job is None else str(job.job)),
        "node": job.node or job.host,
        "begun": moment(job.begun),
        "for": lasting(job.seconds),
        "units": f"{job.units:,}",
    }


def _submissions(report: Report) -> str:
    rows = [
        {"submission": f"{s.folder} {n.number}", "jobs": ", ".join(n.jobs[:NAMED]), "workers": f"{n.n_jobs:,}", "at": moment(n.created),
         "left out": ", ".join(n.excluded[:NAMED]), "abandoned": n.why}
        for s in report.stages for n in s.submitted
    ]  # fmt: skip
    return f"<h3>Submissions</h3>\n{table(full(rows[:ROWS]))}" if rows else ""


def devices(report: Report) -> str:
    """What was computed on what, and where that was not the same for all."""
    stages = report.stages
    suspects = [x for s in stages for x in s.suspects]
    warnings = [(why, n) for s in stages for why, n in s.warnings.items()]
    sources = report.sources if len(report.sources) > 1 else {}
    parts = {
        "Devices": [{"device": name, "workers": f"{n:,}"} for name, n in sorted(report.totals.devices.items())],
        "Devices that workers left as bad": [
            {"why": x.why, "node": x.node or x.host, "place": x.place, "device": x.device, "UUID": x.uuid} for x in suspects
        ],
        "Slow nodes": [
            {"node": n.name, "times the usual": f"{n.times:.2f}", "seconds a slot": f"{n.slot_s:.3g}", "slots": f"{n.slots:,}"}
            for n in report.nodes
        ],
        "Warnings of workers": [{"warning": why, "workers": f"{n:,}"} for why, n in warnings],
        "Versions that differ": [{"package": name, "workers": _counted(of)} for name, of in report.versions.items()],
        "Code that differs": [{"digest": digest, "workers": f"{n:,}"} for digest, n in sources.items()],
    }
    told = "".join(f"<h3>{name}</h3>\n{table(full(rows[:ROWS]))}" for name, rows in parts.items() if rows)
    same = ", ".join(f"{name} {version}" for name, version in report.same_versions.items())
    return told + (f"<p>{text(f'All workers that said so had {same}.')}</p>\n" if same else "")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what} ({n:,})" for what, n in sorted(counts.items()))


def provenance(report: Report) -> str:
    models = {(m.name, m.part, str(m.licence), json.dumps(m.contents, default=str)): m for s in report.stages for m in s.models}
    rows = [
        {"model": m.name, "made": m.part, "licence": str(m.licence) or "not recorded; see the page of the model",
         "contents": ", ".join(f"{role} {identity[:16]}" for role, identity in m.contents.items())}
        for m in models.values()
    ]  # fmt: skip
    inputs = [
        {"input": f"{s.folder}: {role}", "identity": i["identity"][:80], "lay at": i["path"]}
        for s in report.stages
        for role, i in s.inputs.items()
    ]
    return table(full(rows[:ROWS])) + (f"<h3>Inputs</h3>\n{table(full(inputs[:ROWS]))}" if inputs else "")
