"""Where mail for an address goes: rewriting, smtproutes, the questions to the DNS and what their answers mean."""
