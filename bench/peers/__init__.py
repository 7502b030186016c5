"""The peers, each in an environment of its own (environments.py): their no-op task, how it is enqueued and run."""
