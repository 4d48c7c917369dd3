"""What happens to a cohort: read `workflow` from top to bottom."""
