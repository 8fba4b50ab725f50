"""The Python side of the wire: clients, the sources of pictures they send, and the results that come back."""
