"""What one client is to be sent: owed and not yet taken, sent and not yet confirmed, and what it may lose."""
