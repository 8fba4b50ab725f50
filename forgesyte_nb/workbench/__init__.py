"""The workbench: what people hold in a cell, without any widget: streams, ledgers, histories, plots, diagnosis."""
