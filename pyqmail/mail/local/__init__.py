"""Delivery to users of this machine: who they are, their .qmail files, Maildir and mbox.  qmail-lspawn, qmail-local"""
