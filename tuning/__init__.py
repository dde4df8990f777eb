"""Models of what a deployment needs and gives, and the search for its best configuration. Knows no Airflow."""

from wideloop.manifests.engines import ENGINES

# The simulated engine uses these models. The layer manifests is below this one and may not name it.
ENGINES.register_lazily("simulated", "wideloop.tuning.simulator.engine:SimulatedEngine")
