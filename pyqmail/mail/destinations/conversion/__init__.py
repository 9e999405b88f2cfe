"""Settings of other systems as rules for destinations."""
