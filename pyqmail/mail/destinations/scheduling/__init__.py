"""Mail in memory, the ways it goes, the budgets it waits for, and the parcels that are bound to sessions."""
