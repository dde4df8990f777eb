"""How long one prefill chunk and one decode step take: a roofline over every part of a layer.

Each part takes the longer of its arithmetic and its memory traffic, at the fraction of the data sheet's
rate that kernels reach; the hottest expert-parallel rank sets the pace of every MoE layer. Inputs are the
model's shape, the GPU's data sheet and the placement. All constants are in :class:`Constants` with their
source; those called measured were taken from one engine on two H200s and are guesses for other GPUs.

Time is in milliseconds, sizes in bytes. Batches are per attention-DP rank; all ranks are taken to carry
the same batch, as a load-balanced router gives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from wideloop.manifests.deployment import WorkerSpec
from wideloop.manifests.engines.base import Engine
from wideloop.manifests.hardware import HardwareProfile
from wideloop.manifests.model import ModelSpec
from wideloop.tuning.memory import attention_tp, kv_bytes_per_gpu
from wideloop.tuning.placement import Placement, rank_load, slot_load
from wideloop.tuning.popularity import ASSUMED_VARIATION, step_variation

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Constants:
    """Every number that is not on a data sheet. "Measured" is SGLang 0.5.17 on two H200s, "fitted" is fitted to every
    other of its servers there (``wideloop.tuning.calibration``; docs/performance.md has the errors on the rest).

    Attributes:
        matmul: fraction of peak FLOP/s of a large dense matrix product (published H100/H200 GEMM sweeps).
        grouped_matmul: the same for grouped expert products of full tiles.
        attention: the same for prefill attention kernels.
        hbm: fraction of peak bandwidth that weight and KV reads reach (fitted).
        link: fraction of a link's rate that collectives reach (NCCL on NVLink and PCIe).
        graph_layer_ms: overhead of one captured layer at batch 1 (fitted; measured 2.5 ms for 24 layers).
        eager_layer_ms: host time per layer without a graph, whatever the batch (fitted; measured 51-55 ms for 24).
        row_passes: how often the rows of a token's experts go through memory, as hidden states, per MoE layer:
            gathered, activated, summed (fitted; it includes all other costs that grow with tokens, which at EP 2 cannot
            be separated from the cost of rows, so that it is a guess for other layouts).
        sequence_ms: a decode step's time per sequence beyond arithmetic and memory traffic (fitted).
        seed: of the draw that makes each layer's popularity in a step differ from its mean.
        expert_tile: rows an expert's product is padded to (Triton and DeepGEMM tile sizes).
        span: assumed length of the sequences in a prefill chunk, tokens.
        dispatch_bytes, combine_bytes: per hidden element sent to an expert and back (DeepEP: FP8, bf16).
    """

    matmul: float = 0.65
    grouped_matmul: float = 0.65
    attention: float = 0.45
    hbm: float = 0.88
    link: float = 0.75
    graph_layer_ms: float = 0.0926
    eager_layer_ms: float = 2.02
    row_passes: float = 34.5
    sequence_ms: float = 0.0009
    seed: int = 0
    expert_tile: int = 16
    span: int = 2048
    dispatch_bytes: float = 1.0
    combine_bytes: float = 2.0


CONSTANTS = Constants()


class WorkerModel:
    """Timing of one worker; ``worker.knobs`` must be resolved.

    Args:
        popularity: share of routed tokens per expert, [moe_layers, experts], rows sum to 1.
        placement: placement of those layers on ``worker.layout.ep`` ranks.
        engine: the engine, for the batches that it captures as CUDA graphs.
        prefill_graphs: False where prefill chunks are set to run without CUDA graphs.
        variation: of sequences' popularity (``wideloop.tuning.popularity.sequence_variation``); None: as assumed.
    """

    def __init__(
        self,
        model: ModelSpec,
        hardware: HardwareProfile,
        worker: WorkerSpec,
        popularity: Floats,
        placement: Placement,
        constants: Constants = CONSTANTS,
        *,
        engine: Engine,
        prefill_graphs: bool = True,
        variation: float | None = None,
    ) -> None:
        self._model = model
        self._hardware = hardware
        self._gpu = hardware.gpu
        self._worker = worker
        self._popularity = popularity
        self._placement = placement
        self._c = constants
        self._variation = ASSUMED_VARIATION if variation is None else variation
        self._prefill_graphs = prefill_graphs and engine.captures_prefill(worker)
        self._tp = attention_tp(worker)
        self._captured = np.array(engine.capture_sizes(worker.knobs.cuda_graph_max_bs or 1))

    @cached_property
    def imbalance(self) -> float:
        """Load of the hottest rank over the mean, averaged over MoE layers; 1 is perfect."""
        ranks = rank_load(self._popularity, self._placement)
        return float((ranks.max(axis=1) / ranks.mean(axis=1)).mean())

    def prefill_ms(self, tokens: Floats | float) -> Floats:
        """One chunk of ``tokens`` per attention-DP rank.

        Without graphs it takes the longer of GPU and host time: a chunk does not need results of the previous one, so
        the host may run ahead by a chunk.
        """
        gpu = self._prefill_gpu_ms(np.asarray(tokens, dtype=float))
        if not self._prefill_graphs:
            return self._eager_chunk_ms(gpu)
        return gpu + self._model.num_layers * self._c.graph_layer_ms

    def host_share(self, tokens: float) -> float:
        """Time of the host over that of the GPU for a prefill chunk; above 1 the host sets the pace, 0 with graphs."""
        return 0.0 if self._prefill_graphs else self._host_ms / float(self._prefill_gpu_ms(np.asarray(tokens, float)))

    def _prefill_gpu_ms(self, n: Floats) -> Floats:
        own = self._dense_ms(n) + self._attention_prefill_ms(n)
        sequences = np.ceil(n / self._c.span)
        return own + self._experts_ms(n, sequences) + self._rows_ms(n) + self._communication_ms(n) + self._head_ms(1.0)

    def decode_ms(self, batch: Floats | float, context: Floats | float) -> Floats:
        """One step of ``batch`` sequences per attention-DP rank, each with ``context`` tokens cached.

        Up to the largest captured size the step replays a graph padded to the next captured size; beyond
        it the step runs eagerly and also takes the host time of every layer.
        """
        b = np.asarray(batch, dtype=float)
        captured = b <= self._captured[-1]
        index = np.minimum(np.searchsorted(self._captured, b), len(self._captured) - 1)
        rows = np.where(captured, self._captured[index], b)
        cache = b * np.asarray(context, dtype=float) * kv_bytes_per_gpu(self._model, self._worker)
        gpu = (
            self._dense_ms(rows)
            + self._read_ms(cache)
            + self._experts_ms(b, b)
            + self._rows_ms(rows)
            + self._communication_ms(rows)
            + self._head_ms(rows)
            + self._c.sequence_ms * b
        )
        floor = self._model.num_layers * self._c.graph_layer_ms
        return np.where(captured, gpu + floor, self._eager_step_ms(gpu))

    @cached_property
    def _host_ms(self) -> float:
        """Host time to start every kernel of a step."""
        return self._model.num_layers * self._c.eager_layer_ms

    def _eager_chunk_ms(self, gpu: Floats) -> Floats:
        return np.maximum(gpu, self._host_ms)

    def _eager_step_ms(self, gpu: Floats) -> Floats:
        """Sum of host and GPU time: each step samples the next one's input, so host and GPU wait for each other."""
        return gpu + self._host_ms

    def _flops_ms(self, flops: Floats, efficiency: float, bf16: bool = False) -> Floats:
        eight_bit = self._model.weight_bytes <= 1 and not bf16
        rate = (self._gpu.fp8_tflops if eight_bit else self._gpu.bf16_tflops) * 1e12
        return flops / (rate * efficiency) * 1e3

    def _read_ms(self, size: Floats | float) -> Floats:
        return np.asarray(size) / (self._gpu.bandwidth_gb_s * 1e9 * self._c.hbm) * 1e3

    def _dense_ms(self, rows: Floats) -> Floats:
        """Attention projections, shared experts and dense layers of all layers: weights once, rows through."""
        m = self._model
        attention = m.num_layers * m.attention_params_per_layer
        params = (attention + m.shared_params + m.dense_params) / self._tp
        size = m.attention_bytes(attention) + m.shared_bytes(m.shared_params) + m.dense_bytes(m.dense_params)
        compute = self._flops_ms(2 * params * rows, self._c.matmul)
        return np.maximum(compute, self._read_ms(size / self._tp))

    def _attention_prefill_ms(self, tokens: Floats) -> Floats:
        """Scores and values: causal, so half of each sequence's square; 4 FLOPs per pair and channel."""
        m = self._model
        pairs = tokens * np.minimum(tokens, self._c.span) / 2
        flops = 4 * pairs * m.num_attention_heads * m.attention_head_dim * m.num_layers / self._tp
        return self._flops_ms(flops, self._c.attention, bf16=True)

    def _head_ms(self, rows: Floats | float) -> Floats:
        params = self._model.vocab_size * self._model.hidden_size / self._tp
        compute = self._flops_ms(2 * params * np.asarray(rows, dtype=float), self._c.matmul, bf16=True)
        return np.maximum(compute, self._read_ms(2 * params))

    def _experts_ms(self, rows: Floats, sequences: Floats) -> Floats:
        """Routed experts of all MoE layers; ``rows`` tokens of ``sequences`` sequences per attention-DP rank."""
        if np.ndim(rows) == 0:
            return np.asarray(self._experts_step_ms(float(rows), float(sequences)))
        steps, inverse = np.unique(np.stack([np.ravel(rows), np.ravel(sequences)]), axis=1, return_inverse=True)
        times = np.array([self._experts_step_ms(float(r), float(s)) for r, s in steps.T])
        result: Floats = times[np.ravel(inverse)].reshape(np.shape(rows))
        return result

    def _experts_step_ms(self, rows: float, sequences: float) -> float:
        """One step at the pace of each layer's slowest rank: products of padded rows, or weights touched."""
        m, layout = self._model, self._worker.layout
        tokens = rows * layout.dp
        split = layout.tp / layout.ep  # GPUs that share one expert
        share = slot_load(self._step_popularity(sequences * layout.dp), self._placement)
        expected = tokens * m.top_k * share
        touched = 1 - np.exp(tokens * np.log1p(-np.minimum(m.top_k * share, 1 - 1e-12)))
        padded = np.maximum(expected, touched * self._c.expert_tile)
        shape = (self._placement.layers, layout.ep, -1)
        work = padded.reshape(shape).sum(axis=2) / split
        compute = self._flops_ms(2 * m.expert_params * work, self._c.grouped_matmul)
        read = self._read_ms(m.expert_bytes * touched.reshape(shape).sum(axis=2) / split)
        return float(np.maximum(compute, read).max(axis=1).sum())

    def _rows_ms(self, rows: Floats) -> Floats:
        """Time for the rows of all tokens' experts on the mean rank: MoE layers' time besides products and weights.

        The mean rank is used instead of the hottest one: on two H200s a hottest rank with 1.24 times the mean load made
        chunks only 5 % longer, so most of a layer's time does not depend on the placement.
        """
        m, layout = self._model, self._worker.layout
        size = rows * layout.dp * m.top_k / layout.ep * m.hidden_size * 2
        return self._read_ms(size * m.num_moe_layers * self._c.row_passes)

    def _step_popularity(self, sequences: float) -> Floats:
        """The popularity of one step: the mean, changed by the variation between sequences."""
        raw = self._popularity * np.exp(step_variation(sequences, self._variation) * self._draw)
        result: Floats = raw / raw.sum(axis=1, keepdims=True)
        return result

    @cached_property
    def _draw(self) -> Floats:
        return np.random.default_rng(self._c.seed).normal(size=self._popularity.shape)

    def _communication_ms(self, rows: Floats) -> Floats:
        """Time to exchange hidden states: ring collectives, or all-to-all with DeepEP.

        Per layer, without DeepEP: two all-reduces of the rank's rows over the TP group, or under attention DP
        one gather and one scatter of all ranks' rows (together one all-reduce of dp * rows).
        """
        m, layout = self._model, self._worker.layout
        gpus = layout.tp
        if gpus == 1:
            return np.zeros_like(rows)
        if self._worker.knobs.deepep_mode is not None:
            remote = m.top_k * (gpus - 1) / gpus
            volume = rows / self._tp * remote * m.hidden_size * (self._c.dispatch_bytes + self._c.combine_bytes)
            layers = m.num_moe_layers
        else:
            reduced = 2 * rows if layout.dp == 1 else rows * layout.dp
            volume = reduced * m.hidden_size * 2 * 2 * (gpus - 1) / gpus
            layers = m.num_layers
        result: Floats = volume * layers / (self._link_gb_s * 1e9 * self._c.link) * 1e3
        return result

    @cached_property
    def _link_gb_s(self) -> float:
        """Rate of the slowest link a ring or an all-to-all of this worker crosses."""
        if self._worker.layout.nodes == 1:
            return self._gpu.peer_gb_s
        return min(self._gpu.peer_gb_s, self._hardware.fabric_gb_s or self._gpu.peer_gb_s)
