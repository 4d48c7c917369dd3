"""What a scanner makes of an image."""
