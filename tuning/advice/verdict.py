"""The choice among options (off, rearrange, or a number of redundant experts) with its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from wideloop.tuning.advice.options import Option

#: A smaller predicted gain counts as none, because the run-to-run scatter of a server is as large.
WORTH = 0.01
#: Share of the best gain that may be given up to save the memory of more replicas.
_LEFT = 0.2


@dataclass(frozen=True)
class Verdict:
    """Attributes:
    kind: ``off``, ``rearrange`` (no redundant experts) or ``replicate``.
    option: the chosen one. reasons: sentences, the most important first.
    """

    kind: Literal["off", "rearrange", "replicate"]
    option: Option
    reasons: tuple[str, ...]

    @property
    def text(self) -> str:
        """The verdict in three words."""
        if self.kind == "off":
            return "EPLB off"
        return "rearrange only" if self.kind == "rearrange" else f"R = {self.option.redundant}"


def verdict(options: Sequence[Option], *, is_later: bool = True) -> Verdict:
    """Choose among the ``options`` of one worker; the first one is the engine's own order.

    Chosen is the option with the fewest replicas among those whose gain, also on unseen traffic, is near the best:
    within one percentage point, or within a fifth of it, and worth it by itself.

    Args:
        is_later: unseen traffic is of a later time than what placements were made from, not held out of the same.
    """
    off, *placed = options
    usable = [o for o in placed if o.possible]
    if not usable:
        return Verdict("off", off, ("no number of redundant experts fits this worker's memory and buffers",))
    best = max(usable, key=_sure)
    if _sure(best) < WORTH:
        return Verdict("off", off, (_why_off(off, best, is_later), *_remarks(off, best, placed)))
    enough = max(_sure(best) - max(WORTH, _LEFT * _sure(best)), WORTH)
    chosen = next(o for o in usable if _sure(o) >= enough)
    kind: Literal["rearrange", "replicate"] = "replicate" if chosen.redundant else "rearrange"
    other = (
        f"{chosen.gain_unseen:+.1%} on unseen traffic"
        if is_later
        else f"{chosen.gain_unseen:+.1%} on tokens of the same time that were held out"
    )
    gained = (
        f"predicted {chosen.gain:+.1%}, {other}: balance"
        f" {off.balance:.2f} to {chosen.balance:.2f} (worst layer {off.worst:.2f} to {chosen.worst:.2f})"
    )
    return Verdict(kind, chosen, (gained, *_price(chosen, best), *_remarks(off, chosen, placed)))


def chunk_remark(option: Option) -> str:
    """What limits a worker whose prefill was judged at a larger chunk than its own; empty for others."""
    if option.chunk <= option.own_chunk:
        return ""
    return (
        f"judged at {option.chunk} tokens per rank and prefill chunk: at this worker's {option.own_chunk} the host is"
        " slower than the GPU, and no placement shows; raise chunked_prefill_size"
        f" {option.chunk // option.own_chunk} times first"
    )


def _sure(option: Option) -> float:
    return min(option.gain, option.gain_unseen)


def _why_off(off: Option, best: Option, is_later: bool) -> str:
    if off.balance > 0.97:
        return f"the load is even without placing experts (balance {off.balance:.2f})"
    if best.balance < off.balance + 0.005:
        return f"placing the experts does not balance this load ({off.balance:.2f} before, {best.balance:.2f} placed)"
    if best.gain >= WORTH and not is_later:
        return (
            f"what is uneven is chance: a placement gains {best.gain:+.1%} on the tokens it was made from and"
            f" {best.gain_unseen:+.1%} on others of the same time; record for longer"
        )
    if best.gain >= WORTH:
        return (
            f"the hot experts change: a placement gains {best.gain:+.1%} on the traffic it was made from and"
            f" {best.gain_unseen:+.1%} on other; online balancing may follow it"
        )
    return (
        f"balance would rise from {off.balance:.2f} to {best.balance:.2f}, but experts take little of this worker's"
        f" time: predicted {best.gain:+.1%}"
    )


def _price(chosen: Option, best: Option) -> list[str]:
    price = []
    if chosen.redundant:
        price.append(
            f"costs {chosen.experts_gib:.2f} GiB per GPU and {chosen.kv_displaced} tokens of KV cache per rank"
        )
    if best.redundant > chosen.redundant:
        price.append(
            f"R = {best.redundant} would add {_sure(best) - _sure(chosen):+.1%}, which is not worth its memory"
        )
    return price


def _remarks(off: Option, chosen: Option, placed: Sequence[Option]) -> list[str]:
    """Further facts from the table of options that a reader would ask about."""
    notes = []
    lost = [o.redundant for o in placed if o.cost.kernel == "default" and off.cost.kernel == "tuned"]
    if lost:
        some = ", ".join(map(str, lost[:6])) + (" ..." if len(lost) > 6 else "")
        notes.append(f"R = {some} would lose the tuned MoE kernel (-30 % prefill, -14 % decode where it was measured)")
    if chosen.cost.kernel == "default" and off.cost.kernel == "default":
        notes.append("SGLang has no tuned MoE kernel for this shape, with or without redundancy")
    tight = [o.redundant for o in placed if not o.cost.fits]
    if tight:
        notes.append(f"R = {tight[0]} and more do not fit in memory")
    beyond = [o for o in placed if not o.cost.dispatch_ok]
    if beyond:
        limit = beyond[0].cost.dispatch_limit
        notes.append(f"R = {beyond[0].redundant} and more leave DeepEP's buffers room for {limit} tokens per rank only")
    return notes
