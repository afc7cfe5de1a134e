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


def test_a_program_that_took_the_place_of_a_shell_began_after_the_shells_earlier_commands() -> None:
    asked = f"{sys.executable} -c 'from llmhost.machine.process import began; print(began())'"
    script = f"{sys.executable} -c 'import time; print(time.time())'; exec {asked}"
    said = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, check=True)
    before, began = map(float, said.stdout.split())
    assert before < began
