"""Transports: what carries a client's messages to a server and back."""
