"""A whole cycle without Airflow, in one process and within a time budget, by the same steps in the same order.

    wideloop cycle request.json --run first --budget 560

For a host that is lent for minutes: it measures the baseline and records, proves that the placement is in effect,
sweeps, repeats the interesting configurations interleaved, and reports. Everything that was done is in the stores, so
that the same command continues where an earlier one ended. It ends by itself, with status 75, when the next measurement
would not fit into the rest of the budget.
"""
