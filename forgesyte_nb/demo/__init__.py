"""`forgesyte-nb demo`: the main job on real input, in a real Jupyter kernel, with a report to look at.

A kernel starts a server and is then kept busy by a long cell; meanwhile every frame of a clip, photographs and pages go
to the shipped plugins over the WebSocket, and a ledger counts the terminal message of each. `run.py` leads through it.
"""


class DemoError(Exception):
    """The demo cannot go on; the text says why and what to do."""
