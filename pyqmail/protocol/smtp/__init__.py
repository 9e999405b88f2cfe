"""SMTP: both engines, content, addresses and reports."""
