"""Whose fault an event is, and what is remembered: replies, blame, hosts, greylists, network, flows, domains."""
