"""Deploy-tune-benchmark cycles for Wide-Expert-Parallel MoE serving, on Apache Airflow.

The sub-packages are the folders of the repository, in the direction in which they may import each other:
``operators`` (what Airflow and the command line run), ``results`` (records, statistics, the page), ``tuning`` (search,
memory and performance models, expert placement) and ``manifests`` (the deployment as data). ``dags`` holds the DAG
files.

>>> from importlib.metadata import version
>>> import wideloop
>>> wideloop.__version__ == version("wideloop")
True
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("wideloop")
except PackageNotFoundError:  # imported from a folder of links that was never installed, as on a GPU host
    __version__ = "0+unknown"

__all__ = ["__version__"]
