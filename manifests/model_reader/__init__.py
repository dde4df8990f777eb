"""Reads a model's ``config.json`` into a ``ModelSpec``: which layers there are, what each holds, in which form.

``keys`` reads and checks single values, ``families`` has what a family's config leaves out, ``layers`` says what each
layer is, ``attention``, ``state_space`` and ``mlp`` list its matrices, ``quantisation`` their bytes, ``reader`` adds
all up. A key that decides about sizes and is not understood is refused by its name.
"""

from wideloop.manifests.model_reader.reader import read_config

__all__ = ["read_config"]
