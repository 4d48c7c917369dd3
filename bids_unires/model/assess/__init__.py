"""How well images explain the scans, and how sure they are."""
