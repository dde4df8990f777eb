"""Code that runs inside an engine's own Python: it imports the standard library and the engine only."""
