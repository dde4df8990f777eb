"""Models of what a deployment needs and gives, and the search for its best configuration. Knows no Airflow."""

from wideloop.manifests.engines import ENGINES

# The engine that is made of these models; manifests, which is below, may not name it.
ENGINES.register_lazily("simulated", "wideloop.tuning.simulator.engine:SimulatedEngine")
