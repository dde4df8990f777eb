"""``wideloop demo``: a local Airflow that runs one cycle and serves its results page."""
