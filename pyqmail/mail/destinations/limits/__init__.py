"""What limits sessions: budgets and their rooms, rates, and windows that learn."""
