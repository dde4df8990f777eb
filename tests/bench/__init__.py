"""``make bench``: measure what this project promises about its speed and size, and write the table.

One module per group of figures, each with ``measure(workspace) -> list[Figure]``; ``command`` runs the groups
that were asked for and rewrites their sections of ``docs/bench.md``, which nothing else writes.
"""
