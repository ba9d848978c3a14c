"""What a stage asked of a model, in lines for people: what it cost, what was not taken of the answers, and what was cut from them."""

from collections.abc import Mapping

from launch.show.stages import Work

LEFT_EMPTY = "left empty"  # what synth.captions.asking counts slots without a caption under
SHOWN = 3, 160  # texts that were not taken, and characters of each


def asked(work: Work) -> list[str]:
    """One line each, without the stage's name; none where there is nothing to say."""
    return [*_spent(work.spent), *_refused(work.refused, work.said), *_cut(work.cut)]


def _spent(spent: Mapping[str, float]) -> list[str]:
    """What was asked of a server, and what that cost. A killed worker's last minute is not in it; answers/ has every answer."""
    if not spent.get("requests"):
        return []
    again = f", {spent['retries']:,} tries more" if spent.get("retries") else ""
    price = f", price {spent['price']:,.4f}" if spent.get("price") else ""
    lines = [f"{spent['requests']:,} answers{again}; {spent.get('tokens_in', 0):,} tokens in, {spent.get('tokens_out', 0):,} out{price}"]
    if spent.get("alone"):
        fix = "lower captioner.max_batch_size, or give the server more room"
        lines.append(f"{spent['alone']:,} were answered only while nothing else was asked: {fix}")
    return lines


def _refused(refused: Mapping[str, int], texts: Mapping[str, str]) -> list[str]:
    """Answers that were not taken, by reason, with what some of them said."""
    if not refused:
        return []
    counts = {reason: n for reason, n in refused.items() if reason != LEFT_EMPTY}
    empty = refused.get(LEFT_EMPTY, 0)
    left = f"; {empty:,} slots left empty" if empty else ""
    shown = [reason for reason in _commonest(counts) if texts.get(reason, "").strip()][: SHOWN[0]]
    return [f"refused: {_counted(counts)}{left}", *(f"  {reason}: {texts[reason][: SHOWN[1]]!r}" for reason in shown)]


def _cut(cut: Mapping[str, int]) -> list[str]:
    """What was cut away of answers, by kind."""
    return [f"cut from answers: {_counted(cut)}"] if cut else []


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {counts[name]:,}" for name in _commonest(counts))


def _commonest(counts: Mapping[str, int]) -> list[str]:
    return sorted(counts, key=lambda name: (-counts[name], name))
