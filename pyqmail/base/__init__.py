"""Values, words and declarations: what every layer above may use."""
