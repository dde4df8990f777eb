"""Pack the packages that a GPU host without network lacks, and unpack them there into a separate environment.

    python -m wideloop.operators.commands.bundle make gpu-host.txz       # where there is a package index
    python3 operators/commands/bundle/unpack.py gpu-host.txz DIR  # on the GPU host; then DIR/bin/python runs everything

With ``--part gpu-host-disaggregated`` it packs the further packages of separate prefill and decode servers; unpack
them into the same folder after the first part. The host has Python 3.12, PyTorch, triton and their dependencies;
``manifests/environments/<part>.txt`` pins the other packages. Unpacking needs the standard library only.
"""
