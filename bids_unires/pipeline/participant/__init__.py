"""What happens to one participant: read `workflow` from top to bottom."""
