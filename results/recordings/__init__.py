"""Expert recordings: SGLang's dumps, read without executing code in them, and the compact files they are kept as.

:func:`read_dumps` takes the files of every recorder mode; :func:`save` and :func:`load` write and read compact files.
"""

from wideloop.results.recordings.files import load, save
from wideloop.results.recordings.read import read_dumps
from wideloop.results.recordings.recording import Counts, ExpertRecording, merged, tokens

__all__ = ["Counts", "ExpertRecording", "load", "merged", "read_dumps", "save", "tokens"]
