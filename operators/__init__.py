"""What Airflow and the command line run: DAG tasks, commands, the standalone driver, steps and targets."""
