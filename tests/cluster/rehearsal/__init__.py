"""A stand-in for the image of the real engine, so that its whole way on a cluster can be walked without a GPU.

A node of the tests runs a pod of engine ``dynamo-sglang`` exactly as the product rendered it. The image's ``python3``
is a program of this package: it has the container's command line parsed by Dynamo's and SGLang's own parsers of the
version that the image states (:mod:`parsers`), checks environment, ranks, ports, model files and GPUs as the engine
would (:mod:`checks`), and then serves as the simulated engine does, with the timing of that worker (:mod:`worker`).

Nothing that is measured here is a measurement. A worker starts only in a pod that says that its results will be marked
as simulated (``WIDELOOP_CLUSTER__SIMULATED=true``), and every line that it logs first says REHEARSAL.
"""
