"""Engines: where plugins run. `contract.py` says what an engine is; each other module is one kind, or a part."""
