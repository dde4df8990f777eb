"""Code that runs inside an engine's own Python: standard library and the engine, nothing of ours around it."""
