"""What happens to sessions and deliveries, and what follows from it."""
