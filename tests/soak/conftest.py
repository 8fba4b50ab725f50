"""The browser and JupyterLab of `tests/lab`, for what is watched here for long."""

from tests.lab.conftest import browser, lab, notebook, open_notebook

__all__ = ["browser", "lab", "notebook", "open_notebook"]
