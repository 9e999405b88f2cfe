"""The queue manager: new mail, deliveries, retries, bounces.  qmail-send

Its parts, each made of those below it, and no other way round (manager.py makes them):

    Manager                    the end of each turn, signals, losses, the end
    Todo, QueueScan, Sweep     what is found in todo; in info, at the start; in mess, from time to time
    UnsettledMessages          messages that stand in todo; files for those that last (materialize.py)
    Channel                    passes: due, under way, ended.  One for local, one for remote
    Dispatch, Marks            recipients in memory, engine and spawner; bounce texts and marks on disk
    Completion                 the end of a message: bounce, removal
    Cleaner, DirtyPasses       the process that removes mess and todo; what is to be written at the end of the turn

Nobody calls a part above it.  What has to go up goes in one of these ways:

- As a value.  Channel.write_progress() returns the passes that have no files; the Manager gives them to
  UnsettledMessages.note_progress().  Completion.remove_channel_file() returns False if the file is still there, and the
  channel keeps its pass.  UnsettledMessages.remove_replaced() returns numbers that are other messages' now, which Todo
  asks for at the end of each turn.
- Through a pass.  Dispatch and Marks note in it what has happened, and put it among the DirtyPasses of its channel.
- As an answer.  A command to the cleaner brings the function that is to hear of it, and a question to the lookup the
  Dispatch that asked; neither knows whom it answers.
- As finish_turn_soon().  It says nothing but that the turn must be finished at its end.

So a message ends like this: a report -> Dispatch notes it in the pass -> at the end of the turn Channel writes it, or
UnsettledMessages marks it in memory -> once all are done, the channel file goes, or the cleaner removes todo ->
Completion sees that nothing is left, queues a bounce if there is one, and has the cleaner remove mess.
"""
