"""What happens to a participant (`participant.workflow`), and to a cohort (`group.workflow`)."""
