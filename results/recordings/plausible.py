"""What every recording of a router obeys. One that does not is of another thing than its reader believes.

Every token chooses top-k different experts in every layer with experts, so that all these layers have the same total in
every pass (it held in each of 1,149 passes of 16 recordings on GPUs, and in statistics that are public), and no expert
has more than one of a token's choices. All ranks take part in every pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from wideloop.results.recordings.dump import Dump
from wideloop.tuning.torch_files import Array, Unreadable

#: Share of the counts by which layers may differ: a pass may be cut where the recording begins or ends.
_UNEVEN = 0.01
#: Excess of an expert's counts that is let pass: the simulated engine draws a token's experts one by one.
_EXCESS = 1.02
#: Tokens from which it is no chance that all of them chose the same experts.
_MANY_TOKENS = 64


def check_ranks(dumps: Sequence[Dump]) -> None:
    """Whether files of several ranks are those of all ranks, of the same passes.

    Raises:
        Unreadable: a rank's file is missing, or ranks took part in different passes.
    """
    if len(dumps) < 2 or any(dump.ids is None for dump in dumps):
        return
    ranks = {dump.rank: dump for dump in dumps}
    missing = sorted(set(range(max(ranks) + 1)) - set(ranks))
    if missing:
        raise Unreadable(f"is one of {len(dumps)} ranks' files, and those of ranks {missing} are missing")
    passes = {rank: set(map(int, dump.ids if dump.ids is not None else ())) for rank, dump in ranks.items()}
    every = set.union(*passes.values())
    short = {rank: len(every - own) for rank, own in sorted(passes.items()) if own != every}
    if short:
        rank, count = next(iter(short.items()))
        raise Unreadable(
            f"is one of files of different passes: rank {rank} lacks {count} of {len(every)}. Collect those of one dump"
        )


def uneven_passes(per_layer: Array) -> int:
    """In how many passes of ``per_layer`` [passes, layers] the totals of layers with traffic differ.

    Raises:
        Unreadable: they differ over the whole recording.
    """
    total = per_layer.sum(axis=0)
    busy = np.flatnonzero(total)
    usual = float(np.median(total[busy]))
    wrong = busy[np.abs(total[busy] - usual) > _UNEVEN * usual]
    if wrong.size:
        layer = int(wrong[np.abs(total[wrong] - usual).argmax()])
        foreign = total[layer] > usual and 2 * wrong.size < busy.size
        cause = "those of a draft model are among them" if foreign else "the counts of some ranks are missing"
        raise Unreadable(
            f"counts {int(total[layer])} choices in layer {layer} and {int(usual)} in a usual one, though each token"
            f" makes as many in each: {cause} ({wrong.size} of {busy.size} layers with traffic differ)"
        )
    return int((per_layer[:, busy] != per_layer[:, busy].max(axis=1, keepdims=True)).any(axis=1).sum())


def check_choices(total: Array, top_k: int | None, copies: int = 1) -> None:
    """Whether ``total`` [layers, experts] can be of tokens with ``top_k`` different choices each (None: two or more).

    Raises:
        Unreadable: an expert has more than every token's choice, or all tokens chose the same experts.
    """
    busy = np.flatnonzero(total.any(axis=1))
    load = total[busy].astype(float)
    most = load.sum(axis=1) / (top_k or 2)
    over = np.flatnonzero(load.max(axis=1) > _EXCESS * most)
    if over.size and (top_k or 2) < total.shape[1]:
        layer, at = int(busy[over[0]]), int(over[0])
        raise Unreadable(
            f"counts {int(load[at].max())} choices of expert {int(load[at].argmax())} in layer {layer}, where each of "
            f"{most[at]:.0f} tokens may choose it once"
        )
    used = load > 0
    same = (load == load.max(axis=1, keepdims=True))[used].all()
    if same and (used.sum(axis=1) <= total.shape[1] // 2).all() and (load.max(axis=1) >= _MANY_TOKENS * copies).all():
        raise Unreadable(
            f"has tokens that all chose the same {int(used[0].sum())} experts of {total.shape[1]}: padding, or one"
            " prompt over and over, and no traffic. Record while requests are answered"
        )
