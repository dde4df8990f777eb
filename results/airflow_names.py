"""Names of this project's DAGs, by which results are filed, and of its pool. Standard library only, for DAG files."""

CYCLE = "wideep_cycle"
TUNE = "wideep_tune"
TRIAL = "wideep_trial"
EXPERTS = "wideep_experts"
BENCHMARK = "wideep_benchmark"
DEPLOY = "wideep_deploy"
IMAGE = "wideep_image"
WEIGHTS = "wideep_weights"
PREFLIGHT = "wideep_preflight"
JANITOR = "wideep_janitor"

#: Keeps deployments from being measured side by side; one slot per set of GPUs.
GPU_POOL = "wideep_gpu"
