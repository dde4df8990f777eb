"""Expert recordings: SGLang's dumps read without trusting them, kept as compact files of our own.

:func:`read` takes the files of every recorder mode; :func:`save` and :func:`load` keep what matters of them.
"""

from wideloop.results.recordings.files import load, save
from wideloop.results.recordings.read import read
from wideloop.results.recordings.recording import Counts, ExpertRecording, merged, tokens

__all__ = ["Counts", "ExpertRecording", "load", "merged", "read", "save", "tokens"]
