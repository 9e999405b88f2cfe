"""Sources: which of our own addresses mail goes out through, warm-up, what is wrong with one of them."""
