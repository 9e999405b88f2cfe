"""Rules for clients: source form, compiled form, look-up, advice."""
