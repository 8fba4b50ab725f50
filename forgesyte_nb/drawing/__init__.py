"""A plugin's result drawn over its picture, in Python: for snapshots, saved notebooks and reports.

`shapes.py` finds the shapes in a result, `render.py` draws them. Pixels in, pixels out; nothing here does I/O.
"""

from forgesyte_nb.drawing.render import draw_result

__all__ = ["draw_result"]
