"""The steps of a cycle as plain functions: what the DAGs' tasks call, and a script without Airflow can.

None of them imports Airflow. Each is idempotent: a retry does what is left to do.
"""
