"""Plugins: what they are, how they are described, found, registered and sent to where they run."""
