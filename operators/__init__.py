"""What Airflow and the command line run: DAG tasks, commands, the standalone driver, steps and targets."""

import wideloop.tuning  # noqa: F401  # It registers the simulated engine.
