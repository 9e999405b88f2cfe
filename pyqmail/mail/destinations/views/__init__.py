"""What there is to see of an engine: counts of its mail, and what holds it up."""
