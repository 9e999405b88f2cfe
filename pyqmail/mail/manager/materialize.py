"""What the store is asked to make for a message that is settled: its info, local and remote."""

from pyqmail.mail.queue.store import PreprocessedMessage


def preprocessed(message) -> PreprocessedMessage:
    """Return the contents of the files of a TodoMessage."""
    channels = [(name, bytes(records), _due(message, name)) for name, records in message.records.items()]
    return PreprocessedMessage(message.number, message.sender, message.birth, channels)


def _due(message, channel):
    for one in message.passes:
        if one.channel == channel and one.has_ended:
            return one.retry
    return message.birth
