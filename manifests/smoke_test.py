"""Check an environment: import each of its required modules, print their versions, and try DeepEP where it can run.

The same script runs as a child process in a local environment and as a Job's pod in an image.
"""

from __future__ import annotations

import json

#: Facts beside the versions of modules: the CPU's architecture as images name it, CUDA's version, the GPU
#: architectures that torch was compiled for, and what became of DeepEP's dispatch.
ARCH, CUDA, GPU_ARCHS, DISPATCH = "arch", "cuda", "gpu_archs", "deepep_dispatch"
#: GPUs that a dispatch takes: DeepEP has no kernels for one rank.
DISPATCH_GPUS = 2

#: Calls as in sgl-deep-ep 0.1.2 (``deep_ep/buffers/legacy.py``). Ends without the buffer's destructor, which may hang.
_RANK = """
import os, sys, traceback

def dispatch(rank, port):
    import torch, torch.distributed as dist, deep_ep
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    group = dist.new_group([0, 1])
    tokens, hidden, experts, top_k = 64, 7168, 16, 4
    configs = (deep_ep.Buffer.get_dispatch_config(2), deep_ep.Buffer.get_combine_config(2))
    buffer = deep_ep.Buffer(group, max(c.get_nvl_buffer_size_hint(hidden * 2, 2) for c in configs), 0)
    x = torch.full((tokens, hidden), rank + 1.0, dtype=torch.bfloat16, device="cuda")
    weights, chosen = torch.topk(torch.rand((tokens, experts), device="cuda"), top_k, dim=-1)
    chosen = chosen.to(getattr(deep_ep, "topk_idx_t", torch.int64))
    per_rank, _, per_expert, in_rank, _ = buffer.get_dispatch_layout(chosen, experts)
    received, _, _, _, handle, _ = buffer.dispatch(
        x, num_tokens_per_rank=per_rank, is_token_in_rank=in_rank, num_tokens_per_expert=per_expert,
        topk_idx=chosen, topk_weights=weights.float(),
    )
    combined, _, _ = buffer.combine(received, handle)
    expected = x.float() * in_rank.sum(dim=1, keepdim=True)
    assert torch.allclose(combined.float(), expected, rtol=0.02), "what came back is not what was sent"
    torch.cuda.synchronize()
    dist.barrier()

status = 1
try:
    dispatch(int(sys.argv[1]), sys.argv[2])
    status = 0
except BaseException:
    traceback.print_exc()
sys.stderr.flush()
os._exit(status)
"""

#: Arguments: the modules. Prints a JSON object of versions, also to the file that WIDELOOP_RESULT names.
SCRIPT = f"""
import importlib, importlib.metadata, json, os, platform, socket, subprocess, sys
owners = importlib.metadata.packages_distributions()
versions = {{}}
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    top = name.split(".")[0]
    known = importlib.metadata.version(owners[top][0]) if top in owners else "?"
    versions[name] = known if known != "?" else getattr(module, "__version__", "?")
machine = platform.machine()
versions["{ARCH}"] = {{"x86_64": "amd64", "aarch64": "arm64"}}.get(machine, machine)
torch = sys.modules.get("torch")
if torch is not None and "torch" in sys.argv[1:]:
    versions["{CUDA}"] = str(torch.version.cuda)
    versions["{GPU_ARCHS}"] = " ".join(torch.cuda.get_arch_list())
if "deep_ep" in sys.argv[1:]:
    gpus = torch.cuda.device_count()
    versions["{DISPATCH}"] = f"not tried: {{gpus}} GPUs here, it takes {DISPATCH_GPUS}"
    if gpus >= {DISPATCH_GPUS}:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        ranks = [subprocess.Popen([sys.executable, "-c", {_RANK!r}, str(rank), port]) for rank in range(2)]
        try:
            ends = [rank.wait(timeout=300) for rank in ranks]
        except subprocess.TimeoutExpired:
            ends = [rank.poll() for rank in ranks]
            [rank.kill() for rank in ranks]
        if any(end != 0 for end in ends):
            sys.exit(f"DeepEP's dispatch between two GPUs of this node failed: exit statuses {{ends}}")
        versions["{DISPATCH}"] = "2 ranks, 64 tokens each: as sent"
text = json.dumps(versions)
if result := os.environ.get("WIDELOOP_RESULT"):
    open(result, "w").write(text)
print(text)
"""


def versions(output: str) -> dict[str, str]:
    """Parse the versions from the last line that the script printed."""
    imported: dict[str, str] = json.loads(output.strip().splitlines()[-1])
    return imported
