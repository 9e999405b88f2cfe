"""Delivery to other hosts by SMTP.  qmail-rspawn, qmail-remote"""
