"""Files of ``torch.save``, read without torch and without executing code in them."""

from wideloop.tuning.torch_files.archive import Archive, Array
from wideloop.tuning.torch_files.errors import Unreadable
from wideloop.tuning.torch_files.pickled import Tensor, read_pickle

__all__ = ["Archive", "Array", "Tensor", "Unreadable", "read_pickle"]
