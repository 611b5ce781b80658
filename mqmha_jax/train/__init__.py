"""Training: ``loop.py`` tells the story; every other file is one step of it."""
