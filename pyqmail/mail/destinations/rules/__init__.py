"""What an administrator says of destinations: rule text, its compiled form, and what of it applies to whom."""
