"""The watching side: what is waiting, running, done and dead."""
