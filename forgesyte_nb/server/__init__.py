"""The server: gate, HTTP look-ups, the socket shell, the background loop, and the object a notebook holds."""
