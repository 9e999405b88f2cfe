"""The queue manager: new mail, deliveries, retries, bounces.  qmail-send"""
