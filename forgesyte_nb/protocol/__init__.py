"""What travels on the wire: messages, topics, and their bytes. Sans-I/O, and imported by all levels above."""
