"""Detail within slices, learned from the scan's own planes."""
