"""Pack what a GPU host without network lacks, and unpack it there into an environment of its own.

    python -m wideloop.operators.commands.bundle make gpu-host.txz       # where there is a package index
    python3 operators/commands/bundle/unpack.py gpu-host.txz DIR  # on the GPU host; then DIR/bin/python runs everything

With ``--part gpu-host-disaggregated`` it packs what prefill and decode servers of their own need besides; unpack it
into the same folder after the first one. The host brings Python 3.12, PyTorch, triton and what came with
them; ``manifests/environments/<part>.txt`` pins the rest. Unpacking needs the standard library only.
"""
