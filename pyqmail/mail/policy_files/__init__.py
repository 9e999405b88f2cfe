"""The files beside the engines of destinations: the rules that they follow, and what they have learned."""
