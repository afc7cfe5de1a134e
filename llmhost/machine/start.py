"""When this program was loaded. Imported first, before anything starts another process.

A process' own start is not always the program's: the last command of ``bash -c 'llmhost down; llmhost up'``
takes the place of its shell, which is older than the command before it.
"""

from __future__ import annotations

import resource
import time

__all__ = ["LOADED", "REPLACED"]

#: Unix seconds
LOADED = time.time()

#: whether this process was another program before, which has waited for processes of its own
REPLACED = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0
