"""Random weights under which a mixture of experts has hot experts, as trained ones have.

SGLang's ``--load-format dummy`` draws every parameter uniformly and tiny, from a seed that depends on its size
alone: all layers get the same router and all experts the same load. Here embeddings are one direction plus noise,
norms are 1 and a router's logits are a bias of its own plus noise, so each layer has hot experts of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch

_ROUTER = re.compile(r"layers\.(\d+)\.mlp\.gate\.weight$")
#: DeepSeek's own bias of each expert, which training adjusts until the load is even.
_CORRECTION = ".mlp.gate.e_score_correction_bias"
_SEED = 7


def fill(parameters: Iterable[tuple[str, torch.Tensor]], sigma: float, block: float) -> None:
    """Rewrite embeddings, head, norms and routers in place.

    Args:
        sigma: standard deviation of an expert's bias; its load is about log-normal in it (0.8: 6 to 10 times the mean
            at the hottest of 128).
        block: difference of bias between the first and the second half of a layer's experts (negative in half of the
            layers), which makes a placement in order uneven.
    """
    named = dict(parameters)
    hidden = next(p.shape[1] for n, p in named.items() if n.endswith("embed_tokens.weight"))
    direction = _normal((hidden,), _SEED)
    direction = direction / direction.pow(2).mean().sqrt()
    with torch.no_grad():
        for name, parameter in named.items():
            router = _ROUTER.search(name)
            if name.endswith("embed_tokens.weight"):
                # The same seed on every rank: the rows of each rank belong to other tokens, so equal values do no harm.
                parameter.normal_(generator=torch.Generator(parameter.device).manual_seed(_SEED))
                parameter += direction.to(parameter)
            elif name.endswith("lm_head.weight"):
                parameter.normal_(std=hidden**-0.5, generator=torch.Generator(parameter.device).manual_seed(_SEED))
            elif "norm" in name and parameter.dim() == 1:
                parameter.fill_(1.0)
            elif name.endswith(_CORRECTION):
                parameter.zero_()
            elif router is not None:
                parameter.copy_(_router(parameter.shape[0], direction, int(router[1]), sigma, block).to(parameter))


def _router(experts: int, direction: torch.Tensor, layer: int, sigma: float, block: float) -> torch.Tensor:
    """[experts, hidden] whose logits on a normalised embedding are the layer's bias plus standard normal noise."""
    hidden = direction.numel()
    sign = 1.0 if layer % 2 else -1.0
    half = torch.where(torch.arange(experts) < experts // 2, 1.0, -1.0).to(torch.float32)
    bias = sigma * _normal((experts,), 1000 + layer) + sign * block * half
    noise = _normal((experts, hidden), 2000 + layer) * (2.0 / hidden) ** 0.5
    # Noise along the direction would be a second bias.
    noise = noise - torch.outer(noise @ direction, direction) / hidden
    # A normalised embedding is (direction + noise) / sqrt(2).
    return torch.outer(bias, direction) * 2**0.5 / hidden + noise


def _normal(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Standard normal values in float32 on the CPU, whatever the loader's defaults are: equal on every rank."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
