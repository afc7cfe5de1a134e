"""``python -m llmhost`` is ``llmhost``."""

from llmhost.cli.app import main

main()
