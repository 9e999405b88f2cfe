"""The operating system, handled in one place: descriptors, processes, loop, locks, files, resolver, cdb."""
