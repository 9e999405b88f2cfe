"""What waits: the mail in rows, the wheel of retry times, and the order within one destination."""
