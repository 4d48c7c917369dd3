"""What is said in sidecars and logs of how something was made, and read back."""
