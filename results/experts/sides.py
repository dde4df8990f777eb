"""The two sides of an expert comparison, as measurements are filed. Standard library only: DAG files read it."""

#: Experts in the engine's own order, and placed by a recording (or balanced online).
IN_ORDER, PLACED = "in order", "placed"
