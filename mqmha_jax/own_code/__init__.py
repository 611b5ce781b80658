"""Losses, poolings and encoders of the user's own, ``FILE.py:NAME`` in a configuration: what runs, and what may run.

A run is data that people send each other, so loading one must not run what it brings along. Training copies such files
and the neighbours that they import into ``code/`` of the run, with their hashes, and notes for this user that the hash
is trusted: who trained with a file has run it already. Loading runs the copy if its hash is trusted, and otherwise only
with ``--allow-code``.

A sender cannot make a hash trusted: the note lies in the user's own state directory. That the original file still
exists at its old path proves nothing, because a run could then name any file of this machine, such as ``os.py:system``
of the standard library. The hash covers every file of the copy. It cannot cover a folder that is not a copy, where a
file may lie that the code imports indirectly, so a configuration in JSON may run a file only where its user trained
with it, and a run without copies needs ``--allow-code``.
"""
