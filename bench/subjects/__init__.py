"""What is measured, each a program of its own: `python -m subjects.NAME QUEUE …`; its last line is JSON."""
