"""A whole cycle without Airflow, in one process and within a time budget, by the same steps as the DAGs'.

    python -m wideloop.operators.standalone request.json --run first --budget 560

For a host that is lent for minutes: it measures the baseline and records, proves that the placement is honoured,
sweeps, repeats the interesting configurations in turns, and reports. Whatever was done is in the stores, so that the
same command goes on where an earlier one ended; it ends by itself, with status 75, when the next measurement would not
fit into what is left of the budget.
"""
