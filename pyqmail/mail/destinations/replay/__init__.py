"""What other rules would have made of the mail of a log."""
