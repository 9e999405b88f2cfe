"""Taking mail in by SMTP: the session, and what it accepts.  qmail-smtpd"""
