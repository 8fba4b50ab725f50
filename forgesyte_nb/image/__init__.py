"""Image files: header check, decoding to 8-bit pixels, memory limit while decoding."""
