"""When a process began."""

from __future__ import annotations

import subprocess
import sys
import time

#: seconds; Linux counts in hundredths
COUNTED = 0.02


def test_a_process_began_when_it_was_started_and_not_when_it_had_read_its_modules() -> None:
    before = time.time()
    code = "import time; from llmhost.machine.process import began; print(began(), time.time())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    began, asked = map(float, said.stdout.split())
    assert before - COUNTED <= began < asked - COUNTED
