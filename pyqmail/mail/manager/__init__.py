"""The queue manager: new mail, deliveries, retries, bounces.  qmail-send

Its parts, each made of those below it, and no other way round (manager.py makes them):

    Manager                    the end of each turn, signals, losses, the end
    Todo, QueueScan, Sweep     what is found in todo; in info, at the start; in mess, from time to time
    UnsettledMessages          messages that stand in todo; files for those that last (materialize.py)
    ChannelReader              channel files into the engines, slice by slice (queue_scan.py)
    Channel                    feeds an engine and obeys it.  One for local, one for remote
    ChannelDeliveries, Marks   deliveries under way, spawner and log; bounce texts and marks on disk
    Completion                 the end of a message: bounce, removal
    Cleaner, DirtyMessages     the process that removes mess and todo; what is to be written at the end of the turn

Nobody calls a part above it.  What has to go up goes in one of these ways:

- As a value.  Channel.write_progress() returns the messages that have no files; the Manager gives them to
  UnsettledMessages.note_progress().  Completion.remove_channel_file() returns False if the file is still there, and the
  channel keeps its message.  UnsettledMessages.remove_replaced() returns numbers that are other messages' now, which
  Todo asks for at the end of each turn.
- As an order.  The engine (mail/destinations) is told of everything, and its orders are taken when the turn ends.
- Through an OpenMessage.  ChannelDeliveries notes in it what has happened, and puts it among the DirtyMessages.
- As an answer.  A command to the cleaner, a question to the lookup, and files to be put on disk bring the function that
  is to hear of it, or the ChannelDeliveries that asked; none of them knows whom it answers.
- As finish_turn_soon().  It says nothing but that the turn must be finished at its end.

So a message ends like this: a report -> the engine counts it, ChannelDeliveries notes it -> at the end of the turn it
is written, or marked in memory by UnsettledMessages -> the engine says that all are done: the channel file goes, or the
cleaner removes todo -> Completion sees that nothing is left, queues a bounce if there is one, and has mess removed.
"""
