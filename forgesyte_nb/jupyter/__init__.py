"""Makes a server in a kernel reachable through the Jupyter Server: the kernel's file, and the relay that reads it."""
